//! Other programs: the `keyward` binary itself, and Python servers behind it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::secrets;

/// How long a program may take to say what it is expected to say.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs until it is dropped. What it prints is kept.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    said: Arc<Mutex<String>>,
    /// Of `keyward` itself: what it printed, and where it ran, are looked through at its end.
    keyward: Option<Keyward>,
}

struct Keyward {
    dir: Option<PathBuf>,
    /// The demo shows the keys that it has made for its user.
    shows_keys: bool,
    errors: Arc<Mutex<String>>,
    /// They end with it: it has no children that could hold its output open.
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        let said = Arc::new(Mutex::new(String::new()));
        let errors = Arc::new(Mutex::new(String::new()));
        let streams: [(Box<dyn Read + Send>, bool); 2] = [
            (Box::new(child.stdout.take().expect("a pipe")), false),
            (Box::new(child.stderr.take().expect("a pipe")), true),
        ];
        let mut readers = Vec::new();
        for (stream, is_error) in streams {
            let (sender, said, errors) = (sender.clone(), Arc::clone(&said), Arc::clone(&errors));
            readers.push(std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let add = |all: &Mutex<String>| {
                        let mut all = all.lock().expect("nobody panics here");
                        all.push_str(&line);
                        all.push('\n');
                    };
                    add(&said);
                    if is_error {
                        add(&errors);
                    }
                    // Whoever waited for a line may have stopped waiting.
                    let _ = sender.send(line);
                }
            }));
        }
        let keyward = (command.get_program() == env!("CARGO_BIN_EXE_keyward")).then(|| Keyward {
            dir: command.get_current_dir().map(Path::to_owned),
            shows_keys: command.get_args().any(|argument| argument == "demo"),
            errors,
            readers,
        });
        Self { child, lines, said, keyward }
    }

    /// Waits for a line that contains `text`, on either stream.
    pub fn wait_for(&self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => panic!("nothing says {text:?}:\n{}", self.said()),
            }
        }
    }

    /// Waits for the address that a Python server announces.
    pub fn announced_address(&self, before: &str) -> SocketAddr {
        let line = self.wait_for(before);
        let rest = line.split("http://").nth(1).unwrap_or_else(|| panic!("no address in {line}"));
        rest.split([' ', '/']).next().expect("split yields something").parse().unwrap_or_else(|_| panic!("{line}"))
    }

    /// Everything that was printed so far.
    pub fn said(&self) -> String {
        self.said.lock().expect("nobody panics here").clone()
    }

    /// Everything that `keyward` has printed when it has ended.
    pub fn all_said(&mut self) -> String {
        self.wait();
        for reader in self.keyward.iter_mut().flat_map(|keyward| keyward.readers.drain(..)) {
            let _ = reader.join();
        }
        self.said()
    }

    /// The most memory that the program has had so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill runs");
        assert!(sent.success(), "{name} to {id}");
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it is ours")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.keyward.is_none() || std::thread::panicking() {
            return;
        }
        let said = self.all_said();
        if let Some(keyward) = &self.keyward {
            let errors = keyward.errors.lock().map(|errors| errors.clone()).unwrap_or_default();
            secrets::expect_none_in("standard error", errors.as_bytes());
            if !keyward.shows_keys {
                secrets::expect_none_in("what keyward printed", said.as_bytes());
            }
            if let Some(dir) = &keyward.dir {
                secrets::expect_none_in_files_of(dir);
            }
        }
    }
}

/// The binary under test, as a user runs it.
pub fn keyward() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.env_remove("KEYWARD_LOG");
    command
}

/// Runs the binary under test in `dir` to its end.
pub fn keyward_in(dir: &Path, arguments: &[&str]) -> Output {
    let output = keyward().current_dir(dir).args(arguments).output().expect("keyward runs");
    secrets::expect_none_in("standard error", &output.stderr);
    // These show a key, once; or a token of the key service, which looks like one.
    if !arguments.iter().any(|argument| ["create", "rotate", "token"].contains(argument)) {
        secrets::expect_none_in("standard output", &output.stdout);
    }
    secrets::expect_none_in_files_of(dir);
    output
}

/// The addresses in keyward's ready line: `proxy=[127.0.0.1:1] admin=None health=Some(127.0.0.1:2)`.
pub fn ready_address(line: &str, name: &str) -> SocketAddr {
    let rest = line.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
    let address: String = rest
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
        .collect();
    address.parse().unwrap_or_else(|_| panic!("no {name} in {line}"))
}

/// The Python with the packages of `tests/requirements.txt`, which `scripts/test.sh` installs and names.
pub fn python() -> PathBuf {
    std::env::var_os("KEYWARD_TEST_PYTHON")
        .map(PathBuf::from)
        .expect("run the tests by scripts/test.sh, which installs the Python servers that this test needs")
}

/// The folder with the packages of `tests/package.json`.
pub fn node_packages() -> PathBuf {
    std::env::var_os("KEYWARD_TEST_NODE")
        .map(PathBuf::from)
        .expect("run the tests by scripts/test.sh, which installs the npm packages that this test needs")
}

/// The top of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
