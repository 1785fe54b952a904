//! A person at a terminal: a pseudo-terminal whose other side is `aegis`, as its controlling terminal.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::support::aegis::{Aegis, finish};

/// Time that something may take to show on the screen.
const SHOWN_TIME_MAX: Duration = Duration::from_secs(30);

/// A terminal with `aegis` in it.
pub struct Terminal {
    master: OwnedFd,
    // Held open, so that the mode that the program left can be looked at.
    slave: OwnedFd,
    before: String,
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

/// What was left when the program had ended.
#[derive(Debug)]
pub struct Left {
    /// The exit status.
    pub code: Option<i32>,
    /// Everything that was shown.
    pub screen: String,
}

impl Terminal {
    /// Starts `aegis` in a terminal of 33 rows and 101 columns.
    pub fn start(aegis: &Aegis, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let path = ptsname(&master, Vec::new()).expect("a name");
        // A server that is started for it must not hold it open.
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let slave = rustix::fs::open(path.as_c_str(), flags, rustix::fs::Mode::empty()).expect("opened");
        tcsetwinsize(&slave, winsize(33, 101)).expect("a size");
        let before = mode(&slave);

        let plain = aegis.command(arguments);
        // `setsid -c` gives the terminal to the session, as a login does; it becomes the program.
        let mut command = Command::new("setsid");
        command.arg("-c").arg(plain.get_program()).args(plain.get_args()).env_clear();
        command.current_dir(aegis.here());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        for set in [Command::stdin, Command::stdout, Command::stderr] {
            set(&mut command, Stdio::from(slave.try_clone().expect("duplicated")));
        }
        let child = command.spawn().expect("setsid of util-linux");
        drop(command);

        let screen = Arc::new(Mutex::new(Vec::new()));
        let (into, from) = (screen.clone(), master.try_clone().expect("duplicated"));
        let reader = std::thread::spawn(move || {
            let mut from = std::fs::File::from(from);
            let mut buffer = [0; 65_536];
            // The end of a terminal is EIO.
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                into.lock().expect("no panic").extend_from_slice(&buffer[..count]);
            }
        });
        Self { master, slave, before, child, screen, reader }
    }

    /// What is shown by now.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no panic")).into_owned()
    }

    /// Waits until this is shown.
    #[track_caller]
    pub fn until(&self, text: &str) -> &Self {
        let deadline = Instant::now() + SHOWN_TIME_MAX;
        while !self.screen().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not shown: {:?}", self.screen());
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    /// Types.
    pub fn types(&self, text: &str) -> &Self {
        rustix::io::write(&self.master, text.as_bytes()).expect("typed");
        self
    }

    /// Makes the terminal larger or smaller.
    pub fn resize(&self, rows: u16, columns: u16) -> &Self {
        tcsetwinsize(&self.master, winsize(rows, columns)).expect("a size");
        self
    }

    /// Waits for the program's end, and holds that it left the terminal as it found it.
    #[track_caller]
    pub fn finish(self) -> Left {
        let code = finish(self.child, b"").code;
        assert!(
            code.is_some(),
            "it did not end: {:?}",
            String::from_utf8_lossy(&self.screen.lock().unwrap())
        );
        assert_eq!(mode(&self.slave), self.before, "the terminal's mode");
        drop(self.slave);
        self.reader.join().expect("joined");
        let screen = String::from_utf8_lossy(&self.screen.lock().expect("no panic")).into_owned();
        Left { code, screen }
    }
}

impl Left {
    /// Holds the exit status.
    #[track_caller]
    pub fn code(&self, expected: i32) -> &Self {
        assert_eq!(self.code, Some(expected), "{self:#?}");
        self
    }

    /// Holds that this was shown.
    #[track_caller]
    pub fn shows(&self, part: &str) -> &Self {
        assert!(self.screen.contains(part), "no {part:?} in {self:#?}");
        self
    }

    /// Holds that this was not shown.
    #[track_caller]
    pub fn shows_no(&self, part: &str) -> &Self {
        assert!(!self.screen.contains(part), "{part:?} in {self:#?}");
        self
    }
}

fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn mode(terminal: &OwnedFd) -> String {
    let Termios { input_modes, output_modes, control_modes, local_modes, special_codes, .. } =
        tcgetattr(terminal).expect("a mode");
    format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?} {special_codes:?}")
}
