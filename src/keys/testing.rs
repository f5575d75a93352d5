//! What the tests of the store share: a directory or a database of its own for each, and other processes on the same.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;

#[path = "../../tests/it/harness/postgres.rs"]
pub mod server;

/// A directory with room for one store, removed when dropped; or a database.
pub struct Home {
    directory: tempfile::TempDir,
    database: Option<server::Database>,
}

/// Runs a test on each engine.
pub fn on_each_engine(test: impl Fn(&Home)) {
    for home in [Home::new(), Home::on_postgres()] {
        // Shown when the test fails.
        println!("on {}", home.place());
        test(&home);
    }
}

impl Home {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory"), database: None }
    }

    pub fn on_postgres() -> Self {
        Self { database: Some(server::shared().database()), ..Self::new() }
    }

    /// Another one on the same engine.
    pub fn another(&self) -> Self {
        if self.database.is_some() { Self::on_postgres() } else { Self::new() }
    }

    pub fn database(&self) -> Option<&server::Database> {
        self.database.as_ref()
    }

    pub fn place(&self) -> StorePlace {
        place(&self.address())
    }

    /// A path, or a URL with a password.
    fn address(&self) -> String {
        self.database.as_ref().map_or_else(|| self.path().display().to_string(), server::Database::url)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self) -> PathBuf {
        self.directory().join("keyward.db")
    }

    pub fn open(&self) -> Store {
        self.open_with(Peppers::default())
    }

    pub fn open_with(&self, peppers: Peppers) -> Store {
        Store::open(self.place(), peppers).expect("a good store")
    }

    /// Another engine on the same SQLite file, to look beneath the store.
    pub(super) fn engine(&self) -> sqlite::Sqlite {
        sqlite::Sqlite::open(&self.path(), file::create_private).expect("a good store")
    }
}

/// What [`Home::address`] names.
fn place(address: &str) -> StorePlace {
    if address.starts_with("postgres://") {
        PostgresSpec::parse(address).expect("a good URL").into()
    } else {
        StorePlace::from(Path::new(address))
    }
}

pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub fn org_key(name: &str) -> NewKey {
    NewKey::new(name, Some("org_1"), None, ["read:x", "write:x"]).expect("a good key")
}

/// Creates an organization's key with the system's randomness.
pub fn create(store: &mut Store, name: &str) -> CreatedKey {
    try_create(store, name).expect("a good store")
}

pub fn try_create(store: &mut Store, name: &str) -> Result<CreatedKey, StoreError> {
    store.create(&org_key(name), &KeyPrefix::default(), at(1_700_000_000), &mut SystemRandom)
}

/// What happened next, within the time that a change may take to be heard of.
pub fn next_change(watch: &mut ChangeWatch) -> Change {
    for _ in 0..10_000 {
        match watch.poll().expect("a good store") {
            Change::Unchanged => std::thread::sleep(Duration::from_millis(1)),
            change => return change,
        }
    }
    Change::Unchanged
}

fn this_binary() -> PathBuf {
    std::env::current_exe().expect("this test binary")
}

/// Another process, which does one of the tasks of [`child`] and reports by lines.
pub struct Other {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Other {
    /// Starts a process that waits for [`Other::go`].
    pub fn new(task: &str, home: &Home) -> Self {
        Self::spawn(&this_binary(), task, &home.address(), Path::new("/"), None)
    }

    /// As [`Other::new`], with `directory` as its working directory.
    pub fn inside(directory: &Path, task: &str, path: &Path) -> Self {
        Self::spawn(&this_binary(), task, &path.to_string_lossy(), directory, None)
    }

    /// As [`Other::new`], without the powers of root, for whom no permission bit counts.
    pub fn unprivileged(task: &str, path: &Path) -> Self {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        const NOBODY: u32 = 65534;
        let this = this_binary();
        if std::fs::metadata("/proc/self").expect("proc").uid() != 0 {
            return Self::spawn(&this, task, &path.to_string_lossy(), Path::new("/"), None);
        }
        // Nobody may not look into the directory of this binary, perhaps; into this one everybody may.
        let open = tempfile::tempdir().expect("a temporary directory");
        std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let copy = open.path().join("other");
        std::fs::copy(this, &copy).expect("a copy");
        let other = Self::spawn(&copy, task, &path.to_string_lossy(), Path::new("/"), Some(NOBODY));
        // The running process keeps what it needs of the file.
        drop(open);
        other
    }

    fn spawn(binary: &Path, task: &str, address: &str, directory: &Path, user: Option<u32>) -> Self {
        let (_, module) = module_path!().split_once("::").expect("a module of this crate");
        let mut command = Command::new(binary);
        command.args([&format!("{module}::child"), "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir(directory);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut process = command.spawn().expect("this test binary can be run again");
        let mut input = process.stdin.take().expect("a pipe");
        let output = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        writeln!(input, "{task}\n{address}").expect("the process listens");
        Self { process, input, output }
    }

    /// Lets the process begin.
    pub fn go(&mut self) {
        writeln!(self.input, "go").expect("the process waits");
    }

    /// The next thing that the process reports, or `None` when it has ended.
    pub fn report(&mut self) -> Option<String> {
        self.output.by_ref().find_map(|line| Some(line.expect("text").strip_prefix("REPORT ")?.to_owned()))
    }

    /// SIGKILL. What the process had reported by then can still be read.
    pub fn kill(&mut self) {
        self.process.kill().expect("the process runs");
        self.process.wait().expect("it was ours");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is collected.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A key as another process reports it: id, then text.
pub fn reported_key(report: &str) -> (KeyId, String) {
    let (id, key) = report.split_once(' ').expect("two words");
    (KeyId::parse(id).expect("an id"), key.to_owned())
}

/// Set for the process that is to be the other one.
const CHILD: &str = "KEYWARD_STORE_CHILD";

/// Not a test: the other process of [`Other`], which the test harness finds by its name. Does nothing anywhere else.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mut lines = std::io::stdin().lines().map_while(Result::ok);
    let (Some(task), Some(address), Some(_go)) = (lines.next(), lines.next(), lines.next()) else { return };
    // Written straight to the descriptor: an acknowledgement must be out before the next step.
    let report = |text: &str| std::io::stdout().write_all(format!("\nREPORT {text}\n").as_bytes()).expect("a reader");
    let mut store = match Store::open(place(&address), Peppers::default()) {
        Ok(store) => store,
        Err(error) => return report(&error.to_string()),
    };
    let create = |store: &mut Store| match try_create(store, "other process") {
        Ok(key) => report(&format!("{} {}", key.id, key.secret.expose())),
        Err(error) => report(&error.to_string()),
    };
    match task.split_once(' ').unwrap_or((&task, "")) {
        ("create", count) => (0..count.parse().expect("a number")).for_each(|_| create(&mut store)),
        ("create-and-abort", _) => {
            create(&mut store);
            std::process::abort();
        }
        ("create-until-killed", _) => loop {
            create(&mut store);
        },
        ("revoke-and-abort", id) => {
            let revoked =
                store.revoke(&KeyId::parse(id).expect("an id"), None, at(1_700_000_001)).expect("a good store");
            report(&format!("{revoked:?}"));
            std::process::abort();
        }
        ("die-after", rest) => {
            let words: Vec<&str> = rest.split(' ').collect();
            let [steps, change, id] = words[..] else { panic!("three words") };
            let (id, now) = (KeyId::parse(id).expect("an id"), at(1_700_000_010));
            report("ready");
            steps::testing::die_after(steps.parse().expect("a number"));
            let new = match change {
                "create" => try_create(&mut store, "n").expect("a good store"),
                "rotate" => {
                    let hour = Duration::from_secs(3600);
                    match store.rotate(&id, &KeyPrefix::default(), hour, now, &mut SystemRandom).expect("a good store")
                    {
                        Rotation::Rotated { key, .. } => key,
                        other => panic!("{other:?}"),
                    }
                }
                _ => {
                    store.revoke(&id, None, now).expect("a good store");
                    return report(&format!("{id} revoked"));
                }
            };
            report(&format!("{} {}", new.id, new.secret.expose()));
        }
        _ => panic!("unknown task {task}"),
    }
}
