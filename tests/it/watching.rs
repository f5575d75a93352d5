//! A configuration that changes under a running proxy, without a signal.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::{Origin, Process, Request, keyward, keyward_in, ready_address, within};

fn config(origin: &Origin, rest: &str) -> String {
    format!(
        "listen: {{address: '127.0.0.1:0'}}\nhealth: {{address: '127.0.0.1:0'}}\nusage: off\n\
         upstreams: {{ai: {{endpoints: ['http://{}']}}}}\n\
         defaults: {{upstream: ai, request: {{rules: []}}, response: {{rules: []}}}}\n{rest}\n",
        origin.address
    )
}

fn public(path: &str) -> String {
    format!("routes: [{{id: only, path: {path}, public: true}}]")
}

/// Replaces all files of a volume at once, as kubelet does: a new directory, and the link `..data` renamed over.
fn swap(volume: &Path, version: &str, files: &[(&str, &str)]) {
    let new = volume.join(version);
    fs::create_dir(&new).expect("a directory");
    for (name, text) in files {
        fs::write(new.join(name), text).expect("a file");
        if !volume.join(name).exists() {
            symlink(Path::new("..data").join(name), volume.join(name)).expect("a link");
        }
    }
    symlink(version, volume.join("..data_tmp")).expect("a link");
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("a swap");
}

async fn metric(health: std::net::SocketAddr, name: &str) -> f64 {
    let text = Request::new(health, "GET", "/metrics").send().await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

#[tokio::test]
async fn a_swapped_volume_is_in_force_without_a_signal_and_a_bad_one_is_not() {
    let origin = Origin::json("{}").await;
    let volume = tempfile::tempdir().expect("a directory");
    swap(volume.path(), "..1", &[("proxy.yaml", &config(&origin, &public("/one")))]);
    let proxy = Process::start(keyward().arg("run").arg("--config").arg(volume.path().join("proxy.yaml")));
    let ready = proxy.wait_for("keyward is ready");
    let (address, health) = (ready_address(&ready, "proxy"), ready_address(&ready, "health"));
    let status = async |path: &str| Request::new(address, "GET", path).send().await.status;
    assert_eq!((status("/one").await, status("/two").await), (200, 401));
    assert_eq!(metric(health, "keyward_config_generation").await, 1.0);

    swap(volume.path(), "..2", &[("proxy.yaml", &config(&origin, &public("/two")))]);
    within("the second configuration", async { while status("/two").await != 200 {} }).await;
    assert_eq!(status("/one").await, 401);
    assert_eq!(metric(health, "keyward_config_generation").await, 2.0);
    let since = metric(health, "keyward_config_last_reload_success_timestamp_seconds").await;
    assert!(since > 1.7e9, "{since}");

    swap(volume.path(), "..3", &[("proxy.yaml", &config(&origin, "routes: [{id: only, paht: /three}]"))]);
    proxy.wait_for("did you mean `path`?");
    let failed =
        within("the metric", async { while metric(health, "keyward_config_last_reload_success").await != 0.0 {} });
    failed.await;
    assert_eq!(status("/two").await, 200, "the last good configuration stays");
    assert_eq!(metric(health, "keyward_config_generation").await, 2.0);

    // The same file again is no change of a refused one; another one is.
    swap(volume.path(), "..4", &[("proxy.yaml", &config(&origin, &public("/four")))]);
    within("the fourth configuration", async { while status("/four").await != 200 {} }).await;
    assert_eq!(metric(health, "keyward_config_last_reload_success").await, 1.0);
    assert_eq!(proxy.said().matches("did you mean `path`?").count(), 1, "{}", proxy.said());
}

#[tokio::test]
async fn a_secret_that_the_file_names_is_watched_with_it() {
    let origin = Origin::json("{}").await;
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let signed = format!(
        "{}upstreams: {{ai: {{endpoints: ['http://{}'], assertion: {{algorithm: HS256, key_id: k, key: {{file: secret}}}}}}}}\n{}",
        "listen: {address: '127.0.0.1:0'}\nusage: off\n",
        origin.address,
        public("/**").replace("routes", "defaults: {upstream: ai}\nroutes"),
    );
    fs::write(at("proxy.yaml"), signed).expect("a file");
    fs::write(at("secret"), "0123456789abcdef0123456789abcdef").expect("a file");
    let proxy = Process::start(keyward().current_dir(&dir).arg("run"));
    proxy.wait_for("keyward is ready");
    fs::write(at("secret"), "short").expect("a file");
    proxy.wait_for("the new configuration is refused");
    fs::write(at("secret"), "fedcba9876543210fedcba9876543210").expect("a file");
    proxy.wait_for("the new configuration is in force");
}

#[tokio::test]
async fn who_does_not_want_to_be_watched_is_not() {
    let origin = Origin::json("{}").await;
    let dir = tempfile::tempdir().expect("a directory");
    let write = |path: &str| fs::write(dir.path().join("proxy.yaml"), config(&origin, &public(path))).expect("a file");
    write("/one");
    let still = Process::start(keyward().current_dir(&dir).args(["run", "--no-watch", "--workers", "1"]));
    let ready = still.wait_for("keyward is ready");
    assert!(ready.contains("workers=1"), "{ready}");
    let watching = Process::start(keyward().current_dir(&dir).arg("run"));
    watching.wait_for("keyward is ready");
    // By the time that one has seen two changes, the other would have seen the first.
    for path in ["/two", "/three"] {
        write(path);
        watching.wait_for("the new configuration is in force");
    }
    let health = ready_address(&ready, "health");
    assert_eq!(metric(health, "keyward_config_generation").await, 1.0);
    still.signal("HUP");
    still.wait_for("the new configuration is in force");
    assert_eq!(metric(health, "keyward_config_generation").await, 2.0);
}

#[tokio::test]
async fn a_proxy_is_told_to_leave_by_command_and_serves_on() {
    let origin = Origin::json("{}").await;
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("proxy.yaml"), config(&origin, &public("/**"))).expect("a file");
    let mut proxy = Process::start(keyward().current_dir(&dir).arg("run"));
    let ready = proxy.wait_for("keyward is ready");
    let (address, health) = (ready_address(&ready, "proxy"), ready_address(&ready, "health"));
    let output = keyward_in(dir.path(), &["drain", "--pid", &proxy.id().to_string()]);
    assert!(output.status.success(), "{output:?}");
    proxy.wait_for("traffic should go elsewhere");
    assert_eq!(Request::new(health, "GET", "/readyz").send().await.status, 503);
    let answer = Request::new(address, "GET", "/").send().await;
    assert_eq!((answer.status, answer.head.field("connection")), (200, Some("close")));
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.said());
    let gone = keyward_in(dir.path(), &["drain", "--pid", &proxy.id().to_string()]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("cannot signal process"), "{gone:?}");
}
