//! A task with a terminal, and a task's bytes on a person's terminal.

use crate::support::aegis::Aegis;
use crate::support::live::{Live, newest, record};
use crate::support::terminal::{Left, Terminal};

/// Ctrl-C, as a keyboard sends it.
const CTRL_C: &str = "\x03";

fn run(flags: &[&str], script: &str) -> (Aegis, Terminal) {
    let aegis = Aegis::new();
    let mut arguments = vec!["run", "--no-workspace"];
    arguments.extend(flags);
    arguments.extend(["--", "bash", "-c", script]);
    let terminal = Terminal::start(&aegis, &arguments);
    (aegis, terminal)
}

/// A script that needs nobody at the keyboard.
fn left(flags: &[&str], script: &str) -> Left {
    let (_aegis, terminal) = run(flags, script);
    terminal.finish()
}

/// Says what standard input, output and error are, and how large.
const STREAMS: &str = "for i in 0 1 2; do test -t $i && echo tty$i; done; stty size; echo [$TERM]";

#[test]
fn a_terminal_is_the_default_when_all_streams_are_one() {
    let left = left(&[], STREAMS);
    left.code(0);
    for part in ["tty0\r\n", "tty1\r\n", "tty2\r\n", "33 101\r\n", "[xterm"] {
        left.shows(part);
    }
}

#[test]
fn a_terminal_can_be_had_without_one() {
    let ended = Aegis::new().script(&["-t"], STREAMS);
    ended.code(0).prints("tty0").prints("tty1").prints("tty2").prints("24 80");
}

#[test]
fn pipes_get_no_terminal_by_themselves() {
    let ended = Aegis::new().script(&[], "for i in 0 1 2; do test -t $i && echo tty$i; done; true");
    assert_eq!(ended.code(0).stdout, "");
}

#[test]
fn a_resize_reaches_the_task() {
    let (_aegis, terminal) =
        run(&[], "trap 'stty size; exit 0' WINCH; echo rea''dy; while :; do sleep 0.05; done");
    terminal.until("ready").resize(40, 120).until("40 120");
    terminal.finish().code(0);
}

#[test]
fn what_is_typed_reaches_the_task_with_its_end() {
    let (_aegis, terminal) = run(&[], "echo rea''dy; read name; echo hello $name; wc -c; exit 4");
    terminal.until("ready").types("you\r").until("hello you").types("four\r\x04");
    terminal.finish().code(4).shows("\r\n5\r\n");
}

#[test]
fn ctrl_c_is_the_tasks() {
    let (aegis, terminal) =
        run(&[], "trap 'echo interr''upted; exit 5' INT; echo rea''dy; while :; do sleep 0.05; done");
    terminal.until("ready").types(CTRL_C);
    terminal.finish().code(5).shows("interrupted");
    assert_eq!(record(&aegis, &newest(&aegis))["outcome"], serde_json::json!({"kind": "exited", "code": 5}));
}

#[test]
fn ctrl_c_ends_a_task_that_has_no_handler() {
    let (_aegis, terminal) = run(&[], "echo rea''dy; exec sleep 600");
    terminal.until("ready").types(CTRL_C);
    terminal.finish().code(130).shows("signaled(2)");
}

#[test]
fn three_times_ctrl_c_within_a_second_cancel() {
    let (aegis, terminal) =
        run(&["--grace", "1s"], "trap '' INT TERM; echo rea''dy; while :; do sleep 0.05; done");
    terminal.until("ready").types(CTRL_C).types(CTRL_C).types(CTRL_C);
    terminal.finish().code(130).shows("Ctrl-C");
    let outcome = &record(&aegis, &newest(&aegis))["outcome"];
    assert_eq!(*outcome, serde_json::json!({"kind": "cancelled", "by": "interrupt"}));
}

#[test]
fn twice_ctrl_c_does_not_cancel() {
    let (_aegis, terminal) = run(&[], "trap '' INT TERM; echo rea''dy; read line; echo read $line; exit 6");
    terminal.until("ready").types(CTRL_C).types(CTRL_C).types("on\r");
    terminal.finish().code(6).shows("read on");
}

#[test]
fn everything_that_was_written_is_shown_before_the_end() {
    let left = left(&[], "seq 50000; printf last");
    left.code(0).shows("\r\n50000\r\nlast");
}

#[test]
fn a_timeout_leaves_the_terminal_as_it_was() {
    left(&["--timeout", "1s"], "stty -echo raw; sleep 600").code(124).shows("timed_out");
}

#[test]
fn nothing_is_typed_into_a_terminal() {
    // PL-20: TIOCSTI and TIOCLINUX, also with garbage in the high half of the request, which the kernel ignores.
    let script = r#"python3 -c '
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for request in (0x5412, 0x541c, 0x100005412, 0x8000000000005412, 0x10000541c):
    for fd in (0, 1, 2):
        ctypes.set_errno(0)
        done = libc.syscall(16, fd, ctypes.c_ulong(request), ctypes.create_string_buffer(b"\x03x"))
        if done != -1 or ctypes.get_errno() not in (errno.EPERM, errno.ENOTTY):
            print("BREACH", hex(request), fd, done, ctypes.get_errno())
print("tried")
'; read -t 0.2 -n 1 key && echo BREACH "$key"; echo done"#;
    if cfg!(target_arch = "x86_64") {
        left(&[], script).code(0).shows("tried").shows("done").shows_no("BREACH");
    }
}

#[test]
fn a_task_without_a_terminal_does_not_steer_the_persons() {
    let script = r#"printf '\e[1;31mred\e[0m \e]0;title\a \e[2J \e]52;c;aGk=\a \rend \x9b5n'; \
                    printf '\e[5n\e[6n' >&2"#;
    let left = left(&["-i"], script);
    left.code(0).shows("\x1b[1;31mred\x1b[0m").shows("\\x1b]0;title\\x07").shows("\\x1b[2J");
    left.shows("\\x1b]52;c;aGk=\\x07").shows("\\x9b5n").shows("\\x1b[5n\\x1b[6n");
    for raw in ["\x1b]", "\x1b[2J", "\x1b[5n", "\x1b[6n", "\x07"] {
        left.shows_no(raw);
    }
}

#[test]
fn a_log_does_not_steer_the_persons_terminal() {
    let aegis = Aegis::new();
    aegis.script(&[], r"printf '\e[32mgreen\e[0m \e]0;title\a\n'").code(0);
    let left = Terminal::start(&aegis, &["logs", &newest(&aegis)]).finish();
    left.code(0).shows("\x1b[32mgreen\x1b[0m \\x1b]0;title\\x07").shows_no("\x1b]");
}

#[test]
fn a_shell_is_a_terminal_in_a_sandbox() {
    let aegis = Aegis::new();
    let terminal = Terminal::start(&aegis, &["shell", "--no-workspace"]);
    terminal.types("echo $((6*7))\r").until("\r42\r\n").types("id -u; stty size\r").until("33 101");
    terminal.types("exit 3\r");
    let left = terminal.finish();
    left.code(3).shows("\r20000");
    assert_eq!(record(&aegis, &newest(&aegis))["outcome"], serde_json::json!({"kind": "exited", "code": 3}));
}

#[test]
fn a_shell_is_the_small_one_where_the_image_has_no_bash() {
    let aegis = Aegis::new();
    let terminal = Terminal::start(&aegis, &["shell", "--no-workspace", "--image", "aegis/minimal"]);
    terminal.types("echo $((6*7)); exit 4\r");
    terminal.finish().code(4).shows("\r\n42\r\n");
}

#[test]
fn a_shell_stops_and_goes_on_with_its_jobs() {
    let aegis = Aegis::new();
    let terminal = Terminal::start(&aegis, &["shell", "--no-workspace"]);
    // Job control needs the terminal as the shell's own: a stopped job gives the prompt back.
    terminal.types("sh -c 'echo be''gun; exec sleep 600'\r").until("begun").types("\x1a").until("Stopped");
    terminal.types("kill -9 %1; bg %1; wait %1; exit 8\r");
    terminal.finish().code(8).shows("Killed");
}

#[test]
fn a_shell_without_a_terminal_is_wrong_usage() {
    Aegis::new().call(&["shell"]).code(2).says("a shell needs a terminal").says("hint:");
}

#[test]
fn a_further_command_gets_a_terminal_of_its_own() {
    let aegis = Aegis::new();
    let live = Live::start(&aegis, "host", &[], "while :; do sleep 1; done");
    let script = "test -t 0 && stty size; trap 'stty size; exit 9' WINCH; echo rea''dy; \
                  while :; do sleep 0.05; done";
    let terminal = Terminal::start(&aegis, &["exec", &live.id, "--", "bash", "-c", script]);
    terminal.until("33 101").until("ready").resize(50, 140).until("50 140");
    terminal.finish().code(9);
    live.cancel(&aegis).code(143);
}
