//! A PostgreSQL of the tests' own: never the one that a distribution's package starts.
//!
//! Invariant: it ends with the process that started it, however that ends. A shell holds the server and waits for its
//! input, which the system closes with that process.

#![allow(dead_code, reason = "the unit tests share this file, and each of the two uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// With what a URL has to escape.
pub const PASSWORD: &str = "correct-h0rse@battery/staple:50%";
const ESCAPED: &str = "correct-h0rse%40battery%2Fstaple%3A50%25";
const USER: &str = "keyward_owner";

/// Ends the server when told so, or when whoever would tell is gone; then nobody needs its files.
const WATCHDOG: &str = r#"
"$1" -D "$2/data" -k "$2" & server=$!
if read -r _; then kill -INT $server; wait $server; exit; fi
kill -QUIT $server; kill -CONT $server; wait $server
rm -rf "$2"
"#;

static CLUSTERS: AtomicU32 = AtomicU32::new(0);

/// A server with its files.
pub struct Cluster {
    directory: PathBuf,
    host: String,
    port: u32,
    owner: Option<(u32, u32)>,
    watchdog: Mutex<Option<Child>>,
    databases: AtomicU32,
}

/// A database of a [`Cluster`].
pub struct Database {
    pub cluster: &'static Cluster,
    name: String,
}

/// The server that most tests share; none of them stops it.
pub fn shared() -> &'static Cluster {
    static SHARED: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(None));
    &SHARED
}

/// A server for one test, which may stop it. It lives as long as this process.
pub fn own() -> &'static Cluster {
    Box::leak(Box::new(Cluster::start(None)))
}

/// As [`own`], with a certificate and its key in PEM.
pub fn own_with_tls(certify: impl FnOnce(&str) -> (String, String)) -> &'static Cluster {
    Box::leak(Box::new(Cluster::start(Some(Box::new(certify)))))
}

type Certify<'a> = Box<dyn FnOnce(&str) -> (String, String) + 'a>;

impl Cluster {
    fn start(certify: Option<Certify<'_>>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory").keep();
        let owner = unprivileged();
        // Every address of 127/8 is this machine: one of this process alone needs no free port to be looked for.
        let id = std::process::id();
        let cluster = Self {
            host: format!("127.{}.{}.{}", 64 + ((id >> 16) & 63), (id >> 8) & 255, id & 255),
            port: 20_000 + CLUSTERS.fetch_add(1, Ordering::Relaxed),
            directory,
            owner,
            watchdog: Mutex::default(),
            databases: AtomicU32::new(0),
        };
        cluster.give("password", &format!("{PASSWORD}\n"));
        if let Some((user, group)) = owner {
            chown(&cluster.directory, Some(user), Some(group)).expect("root may");
        }
        let data = cluster.directory.join("data");
        let password = cluster.directory.join("password");
        let made = cluster
            .command("initdb")
            .args(["-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync", "-U", USER])
            .arg(format!("--pwfile={}", password.display()))
            .arg(&data)
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut settings = format!(
            "listen_addresses = '{}'\nport = {}\nshared_buffers = 16MB\nmax_connections = 200\nlog_min_messages = panic\n",
            cluster.host, cluster.port
        );
        if let Some(certify) = certify {
            let (certificate, key) = certify(&cluster.host);
            cluster.give("server.crt", &certificate);
            cluster.give("server.key", &key);
            settings += "ssl = on\nssl_cert_file = '../server.crt'\nssl_key_file = '../server.key'\n";
        }
        cluster.give("data/postgresql.auto.conf", &settings);
        cluster.give("data/pg_hba.conf", "local all all scram-sha-256\nhost all all 127.0.0.0/8 scram-sha-256\n");
        cluster.resume_after_stop();
        cluster
    }

    /// A new empty database.
    pub fn database(&'static self) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        Database { cluster: self, name }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u32 {
        self.port
    }

    /// What everything prints that the server is asked as its owner.
    fn sql(&self, database: &str, statements: &str) -> String {
        let done = self.psql(database).args(["-c", statements]).output().expect("psql runs");
        assert!(done.status.success(), "{statements}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text").trim_end().to_owned()
    }

    fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(binary("psql"));
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database])
            .args(["-h", &self.directory.to_string_lossy(), "-p", &self.port.to_string()])
            .env("PGPASSWORD", PASSWORD);
        psql
    }

    /// Ends the server and every connection to it.
    pub fn stop(&self) {
        let mut watchdog = self.watchdog().take().expect("the server runs");
        writeln!(watchdog.stdin.take().expect("a pipe"), "stop").expect("the shell listens");
        watchdog.wait().expect("it was ours");
    }

    /// Starts the server after [`Cluster::stop`].
    pub fn resume_after_stop(&self) {
        let server = binary("postgres");
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCHDOG, "sh", &server.to_string_lossy(), &self.directory.to_string_lossy()]);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        if let Some((user, group)) = self.owner {
            shell.uid(user).gid(group);
        }
        *self.watchdog() = Some(shell.spawn().expect("a shell"));
        let is_ready = (0..6_000).any(|_| {
            let ready = fs::read_to_string(self.pid_file()).unwrap_or_default();
            let is_ready = ready.lines().nth(7).is_some_and(|state| state.trim() == "ready");
            if !is_ready {
                std::thread::sleep(Duration::from_millis(20));
            }
            is_ready
        });
        assert!(is_ready, "the server in {} does not start", self.directory.display());
    }

    /// Stops the clock of every process of the server: connections stay, and nothing answers.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Ends [`Cluster::pause`].
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let main: u32 = fs::read_to_string(self.pid_file())
            .ok()
            .and_then(|text| text.lines().next()?.trim().parse().ok())
            .expect("the server runs");
        let mut all = vec![main];
        for entry in fs::read_dir("/proc").expect("proc").flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // The name stands in parentheses; behind it the state and the parent (proc(5)).
            let state = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = state.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            if parent.and_then(|parent| parent.parse::<u32>().ok()) == Some(main) {
                all.push(id);
            }
        }
        // One that has just ended is no failure.
        let ids = all.iter().map(u32::to_string);
        Command::new("kill").arg(signal).args(ids).stderr(Stdio::null()).status().expect("`kill` is there");
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("data/postmaster.pid")
    }

    fn watchdog(&self) -> MutexGuard<'_, Option<Child>> {
        self.watchdog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A private file of the server's.
    fn give(&self, name: &str, content: &str) {
        let path = self.directory.join(name);
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our file");
        if let Some((user, group)) = self.owner {
            chown(&path, Some(user), Some(group)).expect("root may");
        }
    }

    /// A program of the server's, as the server's user.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary(name));
        command.env("LC_ALL", "C").current_dir("/");
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Database {
    /// Over the server's Unix socket, with the password.
    pub fn url(&self) -> String {
        let socket = self.cluster.directory.to_string_lossy().replace('/', "%2F");
        format!("postgres://{USER}:{ESCAPED}@{socket}:{}/{}", self.cluster.port, self.name)
    }

    /// Over TCP to `address`, without a password.
    pub fn tcp_url(&self, address: impl std::fmt::Display) -> String {
        format!("postgres://{USER}@{address}/{}", self.name)
    }

    /// Runs statements beside the store, as a person with `psql` could.
    pub fn sql(&self, statements: &str) -> String {
        self.cluster.sql(&self.name, statements)
    }

    /// Takes a lock on a table, against readers too, until what this returns is dropped.
    pub fn lock(&self, table: &str) -> Lock {
        let mut psql = self.cluster.psql(&self.name);
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql runs");
        let mut input = psql.stdin.take().expect("a pipe");
        writeln!(input, "BEGIN; LOCK TABLE {table}; SELECT 'locked';").expect("psql listens");
        let mut said = String::new();
        BufReader::new(psql.stdout.take().expect("a pipe")).read_line(&mut said).expect("an answer");
        assert_eq!(said.trim(), "locked");
        Lock { psql, input: Some(input) }
    }
}

/// A transaction that holds a lock.
pub struct Lock {
    psql: Child,
    input: Option<ChildStdin>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // At the end of its input psql disconnects, which rolls the transaction back.
        self.input = None;
        let _ = self.psql.wait();
    }
}

/// PostgreSQL refuses to run as root. The user that its package makes, or `nobody`.
fn unprivileged() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if fs::metadata("/proc/self").expect("proc").uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("the users");
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("a user without rights"))
}

/// From the path, or where Debian keeps the versions beside each other.
fn binary(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin").join(name))))
        .filter(|(_, path)| path.exists())
        .collect();
    found.sort();
    found.pop().map_or_else(|| Path::new(name).to_owned(), |(_, path)| path)
}
