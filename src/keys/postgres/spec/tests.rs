use super::*;

fn parse(url: &str) -> PostgresSpec {
    PostgresSpec::parse(url).unwrap_or_else(|error| panic!("{url}: {error:?}"))
}

#[test]
fn urls_are_read_as_libpq_reads_them() {
    for (url, shown, password, tls) in [
        (
            "postgres://u@db.example.com/keys",
            "postgres://u@db.example.com:5432/keys",
            None,
            PostgresTls::Verified(None),
        ),
        ("postgresql://u:p%40%2F:w@db:6432/k", "postgres://u@db:6432/k", Some("p@/:w"), PostgresTls::Verified(None)),
        ("postgres://u@a,b:1/k?sslmode=require", "postgres://u@a:5432,b:1/k", None, PostgresTls::Unverified),
        ("postgres://u@127.0.0.1/k", "postgres://u@127.0.0.1:5432/k", None, PostgresTls::Off),
        ("postgres://u@[::1]:7/k", "postgres://u@[::1]:7/k", None, PostgresTls::Off),
        (
            "postgres://u@localhost/k?sslmode=verify-full",
            "postgres://u@localhost:5432/k",
            None,
            PostgresTls::Verified(None),
        ),
        ("postgres://u@%2Frun%2Fpostgresql/k", "postgres://u@/run/postgresql:5432/k", None, PostgresTls::Off),
        ("postgres://u@/k?host=/run/pg&port=6", "postgres://u@/run/pg:6/k", None, PostgresTls::Off),
        ("postgres://u@10.0.0.1/k?sslmode=disable", "postgres://u@10.0.0.1:5432/k", None, PostgresTls::Off),
    ] {
        let spec = parse(url);
        assert_eq!(spec.to_string(), shown, "{url}");
        assert_eq!(spec.password.as_ref().map(SecretString::expose), password, "{url}");
        assert_eq!(spec.tls, tls, "{url}");
    }
}

#[test]
fn what_is_no_database_is_refused_and_quotes_nothing() {
    for (url, expected) in [
        ("mysql://u:hunter2@h/d", "expected a URL"),
        ("postgres://h/d", "no user"),
        ("postgres://u:hunter2@h", "no database"),
        ("postgres://u:hunter2@/d", "no host"),
        ("postgres://u:hunter2@h:0/d", "no number"),
        ("postgres://u:hunter2@h:+5/d", "no number"),
        ("postgres://u:hunter/2@h/d", "no number"),
        ("postgres://u:hunter#2@h/d", "`#`"),
        ("postgres://u:hunter?2@h/d", "not supported"),
        ("postgres://u:hunter2%@h/d", "`%`"),
        ("postgres://u:hunter2%zz@h/d", "`%`"),
        ("postgres://u:hunter2@h/d/e", "no name"),
        ("postgres://u:hunter2@h,/d", "no name and no address"),
        ("postgres://u:hunter2@[::1/d", "no name and no address"),
        ("postgres://u:hunter2@h/d?sslmode=prefer", "turn encryption off"),
        ("postgres://u:hunter2@h/d?sslmode=verify-ca", "host's name"),
        ("postgres://u:hunter2@h/d?sslmode=on", "unknown"),
        ("postgres://u:hunter2@h/d?sslrootcert=x", "sslrootcert"),
        ("postgres://u@h/d?password=hunter2", "no parameter"),
        ("postgres://u:hunter2@h/d?options=x", "not supported"),
        ("postgres://u:hunter2@h/d?sslmode=require&sslmode=disable", "twice"),
        ("postgres://u:hunter2@h/d?host=/run", "named twice"),
        ("postgres://u:hunter2@/d?host=run", "absolute"),
        ("postgres://u:hunter2@/d?host=/run&sslmode=require", "no TLS over a Unix socket"),
    ] {
        let error = PostgresSpec::parse(url).expect_err(url);
        assert!(error.message.contains(expected), "{url}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter"), "{url}: {error:?}");
    }
}

#[test]
fn nothing_shows_the_password() {
    let spec = parse("postgres://u:hunter2@h/d");
    assert!(!format!("{spec:?} {spec}").contains("hunter2"));
    assert_ne!(spec, parse("postgres://u:hunter3@h/d"), "and yet it counts");
}
