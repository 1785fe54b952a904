//! Gigabytes through the standard streams: whole, in order, with little memory, and ended at the limit.

/// Each of these fills the pipes of the machine for seconds: one at a time.
mod heavy_flood {
    use std::io::Read;
    use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
    use std::time::Duration;

    use rustix::process::{Pid, Signal, kill_process};

    use crate::support::aegis::{Aegis, PATIENCE, eventually, finish};
    use crate::support::processes::{descriptors, peak_resident_bytes};

    /// What Aegis may have resident while it streams.
    const RESIDENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

    /// A run with both streams open, and a watch over its memory.
    struct Flood {
        child: Child,
        watch: std::thread::JoinHandle<u64>,
    }

    impl Flood {
        fn start(aegis: &Aegis, flags: &[&str], script: &str) -> Self {
            let mut arguments = vec!["run", "--no-workspace", "--quiet"];
            arguments.extend(flags);
            arguments.extend(["--", "bash", "-c", script]);
            let child = aegis.command(&arguments).spawn().expect("aegis starts");
            let pid = child.id();
            let watch = std::thread::spawn(move || {
                let mut peak = 0;
                // A zombie has no such line any more.
                while let Some(bytes) = peak_resident_bytes(pid) {
                    peak = bytes;
                    std::thread::sleep(Duration::from_millis(20));
                }
                peak
            });
            Self { child, watch }
        }

        fn stdout(&mut self) -> ChildStdout {
            self.child.stdout.take().expect("a pipe")
        }

        fn stderr(&mut self) -> ChildStderr {
            self.child.stderr.take().expect("a pipe")
        }

        /// Waits for the end and holds status and memory.
        #[track_caller]
        fn ended(mut self, code: i32) {
            let status = self.child.wait().expect("waited for");
            let peak = self.watch.join().expect("joined");
            assert_eq!(status.code(), Some(code));
            assert!(peak > 0 && peak < RESIDENT_BYTES_MAX, "{peak} bytes were resident");
        }
    }

    /// SHA-256 of a stream, by a program that is as fast as the stream.
    fn digest(stream: impl Into<Stdio>) -> std::thread::JoinHandle<String> {
        let child =
            Command::new("sha256sum").stdin(stream).stdout(Stdio::piped()).spawn().expect("sha256sum runs");
        std::thread::spawn(move || {
            let output = child.wait_with_output().expect("waited for");
            String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned()
        })
    }

    /// The same of what a script prints on this host.
    fn digest_here(script: &str) -> String {
        let mut child =
            Command::new("bash").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("bash runs");
        let digest = digest(child.stdout.take().expect("a pipe")).join().expect("joined");
        child.wait().expect("waited for");
        digest
    }

    fn check_streams(script: &str, stdout: &str, stderr: &str) {
        let aegis = Aegis::new();
        let mut flood = Flood::start(&aegis, &["--output-limit", "3GiB"], script);
        let (seen_stdout, seen_stderr) = (digest(flood.stdout()), digest(flood.stderr()));
        assert_eq!(seen_stdout.join().expect("joined"), digest_here(stdout), "standard output");
        assert_eq!(seen_stderr.join().expect("joined"), digest_here(stderr), "standard error");
        flood.ended(0);
    }

    #[test]
    fn two_gibibytes_stream_whole_in_little_memory() {
        check_streams("head -c 2G /dev/zero", "head -c 2G /dev/zero", "true");
    }

    #[test]
    fn rb_03_a_gigabyte_on_standard_error_while_standard_output_is_silent() {
        let lines = "seq 1 200000000 | head -c 1000000000";
        check_streams(&format!("{lines} >&2; echo end"), "echo end", lines);
    }

    #[test]
    fn rb_03_half_a_gigabyte_on_each_at_once() {
        let up = "seq 1 200000000 | head -c 500000000";
        let even = "seq 2 2 400000000 | head -c 500000000";
        check_streams(&format!("({up}) & ({even}) >&2; wait"), up, even);
    }

    #[test]
    fn past_the_limit_a_flood_ends_as_that() {
        let aegis = Aegis::new();
        let ended = aegis.script(&["--output-limit", "1MiB"], "head -c 2G /dev/zero");
        ended.code(123).says("output_limit").says("1 MiB").says("--output-limit 2MiB");
        assert!(ended.stdout.len() <= 1 << 20, "{} bytes came through", ended.stdout.len());
        assert!(ended.stdout.len() >= (1 << 20) - 65_536, "{} bytes came through", ended.stdout.len());
    }

    #[test]
    fn what_is_left_in_a_pipe_when_the_task_ends_passes_the_limit_too() {
        let aegis = Aegis::new();
        let script = ["--", "head", "-c", "400000", "/dev/zero"];
        let run = [&["run", "--no-workspace", "--output-limit", "300KiB"][..], &script].concat();
        let child = aegis.command(&run).spawn().expect("aegis starts");
        // Nobody reads yet: the task has written all of it into its pipe and ended.
        eventually("it ends", PATIENCE, || aegis.call(&["ps", "--json"]).stdout.contains("finishing"));
        assert_eq!(finish(child, b"").code(123).stdout.len(), 300 * 1024);
    }

    #[test]
    fn the_limit_counts_both_streams_together() {
        let ended = Aegis::new().script(&["--output-limit", "1MiB"], "yes >&2 & yes");
        ended.code(123);
        assert!(ended.stdout.len() <= 1 << 20);
    }

    #[test]
    fn rb_01_yes_leaves_no_more_than_its_limit_behind() {
        let aegis = Aegis::new();
        let mut flood = Flood::start(&aegis, &["--output-limit", "8MiB", "--timeout", "60s"], "yes");
        let (mut stdout, mut stderr) = (flood.stdout(), flood.stderr());
        let reader =
            std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()).expect("read"));
        let mut words = String::new();
        stderr.read_to_string(&mut words).expect("read");
        let shown = reader.join().expect("joined");
        flood.ended(123);
        assert!(shown <= 8 << 20, "{shown} bytes were shown");
        let kept = bytes_below(&aegis.state());
        assert!(kept <= 16 << 20, "{kept} bytes are kept");
    }

    fn bytes_below(directory: &std::path::Path) -> u64 {
        let mut bytes = 0;
        for entry in std::fs::read_dir(directory).expect("read").flatten() {
            let metadata = entry.metadata().expect("read");
            bytes += if metadata.is_dir() { bytes_below(&entry.path()) } else { metadata.len() };
        }
        bytes
    }

    #[test]
    fn rb_04_a_client_that_stopped_holds_the_task_back_and_nothing_grows() {
        let aegis = Aegis::new();
        // Beside the stopped one another task works on.
        aegis.script(&[], "true").code(0);
        let child = aegis
            .command(&["run", "--no-workspace", "--output-limit", "2GiB", "--timeout", "20s", "--", "yes"])
            .spawn()
            .expect("aegis starts");
        let pid = child.id();
        std::thread::sleep(Duration::from_secs(3));
        let signal = |it| {
            let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
            kill_process(pid, it).expect("it is there");
        };
        signal(Signal::STOP);
        let before = (peak_resident_bytes(pid).expect("it lives"), bytes_below(&aegis.state()));
        aegis.script(&[], "echo meanwhile").code(0).prints("meanwhile");
        std::thread::sleep(Duration::from_secs(2));
        let after = (peak_resident_bytes(pid).expect("it lives"), bytes_below(&aegis.state()));
        assert_eq!(before.0, after.0, "memory of a stopped process");
        assert!(after.1 < before.1 + (2 << 20), "{before:?} {after:?}: the disk grew");
        assert!(after.0 < RESIDENT_BYTES_MAX, "{} bytes were resident", after.0);
        signal(Signal::CONT);
        signal(Signal::TERM);
        finish(child, b"").code(143);
    }

    #[test]
    fn rb_04_nobody_reads_and_memory_stays_bounded() {
        let aegis = Aegis::new();
        let mut flood =
            Flood::start(&aegis, &["--output-limit", "2GiB", "--timeout", "5s", "--grace", "1s"], "yes");
        // Held open, never read, until the run has ended by its clock.
        let (stdout, stderr) = (flood.stdout(), flood.stderr());
        let pid = flood.child.id();
        std::thread::sleep(Duration::from_secs(3));
        assert!(peak_resident_bytes(pid).expect("it lives") < RESIDENT_BYTES_MAX);
        std::thread::sleep(Duration::from_secs(6));
        drop((stdout, stderr));
        flood.ended(124);
    }

    #[test]
    fn rb_07_descriptors_of_a_task_are_not_ours() {
        let aegis = Aegis::new();
        let script = "python3 -c 'import os, time\nn = 0\ntry:\n  while n < 200000: os.dup(0); n += 1\n  \
                      print(\"BREACH\", n)\nexcept OSError as e: print(\"stopped at\", n, e.strerror, flush=True)\n\
                      time.sleep(3)'";
        let child = aegis
            .command(&["run", "--no-workspace", "--", "bash", "-c", &format!("ulimit -n hard; {script}")])
            .spawn()
            .expect("aegis starts");
        let pid = child.id();
        std::thread::sleep(Duration::from_secs(2));
        let before = descriptors(pid);
        std::thread::sleep(Duration::from_millis(1500));
        let after = descriptors(pid);
        let ended = finish(child, b"");
        ended.no_breach().prints("Too many open files");
        assert!(after <= before + 2 && after < 64, "{before} descriptors, then {after}");
    }
}
