//! `keyward demo`, as a newcomer runs it, and the source document's endpoints behind it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Process, Request, keyward, repository};

struct Demo {
    _process: Process,
    /// Where the demo keeps its store: a demo that is killed cannot tidy up.
    _dir: tempfile::TempDir,
    proxy: SocketAddr,
    admin: SocketAddr,
    org: String,
    user: String,
}

fn demo() -> Demo {
    let dir = tempfile::tempdir().expect("a directory");
    let process = Process::start(keyward().env("TMPDIR", dir.path()).args([
        "demo",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--json",
    ]));
    let ready: Value = serde_json::from_str(&process.wait_for("{")).expect("one line of JSON");
    let url = |name: &str| {
        ready[name].as_str().expect("a URL").strip_prefix("http://").expect("http").parse().expect("an address")
    };
    let key = |name: &str| ready["keys"][name].as_str().expect("a key").to_owned();
    Demo {
        proxy: url("proxy"),
        admin: url("admin"),
        org: key("organization"),
        user: key("user"),
        _process: process,
        _dir: dir,
    }
}

impl Demo {
    fn post(&self, path: &str, key: &str, body: &Value) -> Request {
        Request::new(self.proxy, "POST", path).key(key).json(body.to_string())
    }

    fn get(&self, path: &str, key: &str) -> Request {
        Request::new(self.proxy, "GET", path).key(key)
    }
}

#[tokio::test]
async fn the_source_documents_endpoints_answer_with_the_owner_of_the_key() {
    let demo = demo();
    for (key, organization, user) in
        [(&demo.org, json!("org_customer_abc"), Value::Null), (&demo.user, Value::Null, json!("kp_1234567890"))]
    {
        for (request, fields) in [
            (demo.post("/ai/support", key, &json!({"message": "Hello"})), &["response", "data_sources"][..]),
            (demo.get("/ai/analytics", key), &["insights", "data_summary"]),
            (
                demo.post("/ai/workflow", key, &json!({"workflow": "tidy up"})),
                &["result", "workflow_id", "execution_time"],
            ),
            (demo.post("/ai/chat", key, &json!({"message": "Hello"})), &["response"]),
            (demo.post("/ai/process", key, &json!({"input": "Hello"})), &["result"]),
        ] {
            let answer = request.header("X-Org-Code", "org_evil").header("X_User_Id", "kp_evil").send().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let answer = answer.json();
            assert_eq!((&answer["organization"], &answer["user_id"]), (&organization, &user), "{answer}");
            for field in fields {
                assert!(!answer[field].is_null(), "{field} is missing: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn the_source_documents_limit_and_prompt_security() {
    let demo = demo();
    let process = demo.post("/ai/process", &demo.org, &json!({"input": "a<script>x</script>b javascript:c onload =d"}));
    let result = process.send().await.json()["result"].as_str().expect("a result").to_owned();
    assert!(result.contains("ab c d"), "{result}");
    let long = demo.post("/ai/process", &demo.org, &json!({"input": "x".repeat(10_001)})).send().await;
    assert_eq!((long.status, long.json()["error"].as_str()), (400, Some("Input too long")));
    let unsafe_answer = demo.post("/ai/chat", &demo.org, &json!({"message": "unsafe-demo"})).send().await;
    assert_eq!((unsafe_answer.status, unsafe_answer.code().as_str()), (502, "AI_RESPONSE_BLOCKED"));

    let chat = demo.post("/ai/chat", &demo.user, &json!({"message": "Hello"}));
    for n in 0..50 {
        assert_eq!(chat.send().await.status, 200, "request {n}");
    }
    let refused = chat.send().await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "AI_RATE_LIMITED"));
    let wait: u64 = refused.head.field("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=18).contains(&wait), "one token comes back every 18 seconds: {wait}");
    assert_eq!(demo.get("/ai/analytics", &demo.org).send().await.status, 200, "another key is not affected");
}

#[tokio::test]
async fn a_chat_completion_streamed_and_not() {
    let demo = demo();
    let body = |stream: bool| json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "Hi"}]});
    let whole = demo.post("/v1/chat/completions", &demo.org, &body(false)).send().await.json();
    assert_eq!(whole["object"], "chat.completion");
    let streamed = demo.post("/v1/chat/completions", &demo.org, &body(true)).send().await;
    assert_eq!(streamed.head.field("content-type").map(|kind| kind.starts_with("text/event-stream")), Some(true));
    let text = streamed.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let joined: String = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(Some(joined.as_str()), whole["choices"][0]["message"]["content"].as_str());
    let unsafe_body =
        json!({"stream": true, "messages": [{"role": "user", "content": "unsafe-demo project bluebird"}]});
    let unsafe_text = demo.post("/v1/chat/completions", &demo.org, &unsafe_body).send().await.text();
    let joined: String = unsafe_text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert!(joined.ends_with("unsafe-demo [removed] [removed]alert(1)</script>"), "{joined}");
    let wrong_key = demo.post("/v1/chat/completions", "kw_live_nobody", &body(true)).send().await.json();
    assert_eq!(wrong_key["error"]["type"], "authentication_error", "this route speaks OpenAI's errors");
    let metrics = Request::new(demo.admin, "GET", "/metrics").send().await;
    assert_eq!(metrics.status, 200);
}

#[test]
fn every_command_of_the_guide_shows_what_it_and_the_readme_say() {
    let process = Process::start(keyward().args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]));
    process.wait_for("Ctrl-C ends the demo.");
    let guide = process.said();
    let readme = fs::read_to_string(repository().join("README.md")).expect("the README");
    let keys: Vec<&str> =
        guide.lines().filter(|line| line.starts_with("ORG_KEY=") || line.starts_with("USER_KEY=")).collect();
    let mut steps = 0;
    let mut lines = guide.lines();
    while let Some(command) = lines.find(|line| line.starts_with("curl ") || line.starts_with("for ")) {
        let shows = lines.next().and_then(|line| line.strip_prefix("# shows ")).expect("what it shows");
        let script = format!("{}\n{}\n{command}", keys[0], keys[1]);
        let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(shows), "{command}\nshows {shows:?}? It printed:\n{said}");
        assert!(readme.contains(shows), "the README does not mention {shows}");
        steps += 1;
    }
    assert_eq!((steps, keys.len()), (11, 2), "{guide}");
}
