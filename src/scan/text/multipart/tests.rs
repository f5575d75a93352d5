use proptest::{prelude::*, sample::select};

use super::*;
use crate::scan::testing::config;

fn boundary(text: &str) -> Boundary {
    Boundary::new(text.as_bytes()).unwrap()
}

/// What a splitter says, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told(Vec<(&'static str, Vec<u8>, u64)>);

impl Sink for Told {
    fn outside(&mut self, raw: Range<u64>) {
        self.0.push(("outside", raw.start.to_string().into_bytes(), raw.end));
    }

    fn head(&mut self, head: &[u8], body: u64) {
        self.0.push(("head", head.to_vec(), body));
    }

    fn end(&mut self, raw: u64) {
        self.0.push(("end", Vec::new(), raw));
    }
}

fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Told, MultipartError> {
    let mut splitter = Splitter::new(&boundary("-b-b"));
    let mut told = Told::default();
    for chunk in chunks {
        splitter.feed(chunk, &mut told)?;
    }
    splitter.finish(&mut told)?;
    Ok(told)
}

fn kind(body: &str) -> MultipartErrorKind {
    split([body.as_bytes()]).expect_err(body).kind
}

/// The parts of a body.
fn parts(body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut parts = Vec::new();
    let mut begun = None;
    for (what, bytes, at) in split([body]).unwrap().0 {
        match what {
            "head" => begun = Some((bytes, at as usize)),
            "end" => {
                let (head, from) = begun.take().unwrap();
                parts.push((head, body[from..at as usize].to_vec()));
            }
            _ => {}
        }
    }
    parts
}

const BODY: &[u8] =
    b"pre\r\namble\r\n---b-b \t\r\nA: 1\r\nB: 2\r\n\r\ntext\r\n--\r\n---b-\r\n---b-b\r\n\r\nx\r\n---b-b\r\n\r\n\
    \r\n---b-b\r\n\r\n---b-b--  \r\nepi\nlogue";

#[test]
fn a_body_of_every_kind_of_part() {
    let texts: Vec<(String, String)> = parts(BODY)
        .into_iter()
        .map(|(head, text)| (String::from_utf8(head).unwrap(), String::from_utf8(text).unwrap()))
        .collect();
    let expected =
        [("A: 1\r\nB: 2\r\n", "text\r\n--\r\n---b-"), ("", "x"), ("", ""), ("", "")].map(|(a, b)| (a.into(), b.into()));
    assert_eq!(texts, expected);
    let outside: Vec<_> = split([BODY]).unwrap().0.into_iter().filter(|told| told.0 == "outside").collect();
    assert_eq!(outside.len(), 2);
    assert_eq!((outside[0].2, outside[1].2), ("pre\r\namble".len() as u64, BODY.len() as u64));
}

#[test]
fn cuts_change_nothing() {
    let whole = split([BODY]);
    for at in 0..BODY.len() {
        assert_eq!(split([&BODY[..at], &BODY[at..]]), whole, "{at}");
    }
    assert_eq!(split(BODY.chunks(1)), whole);
}

#[test]
fn only_delimiters_that_every_reader_understands() {
    use MultipartErrorKind::*;
    for (body, expected) in [
        ("", End),
        ("---b-b\r\n\r\nx\r\n---b-b\r\n", End),
        ("---b-b\r\n\r\nx\r\n---b-b-", End),
        ("---b-b\n\r\nx\r\n---b-b--", Boundary),
        ("---b-b\r\n\r\nx\n---b-b--", Boundary),
        ("---b-b\r\n\r\nx\r---b-b--", Boundary),
        ("---b-b\r\n\r\nx ---b-b--\r\n---b-b--", Boundary),
        ("---b-b\r\n\r\n\r\n---b-bX\r\n---b-b--", Boundary),
        ("---b-b\r\n\r\n\r\n---b-b--X\r\n", Boundary),
        ("x---b-b\r\n\r\n\r\n---b-b--", Boundary),
        ("----b-b\r\n\r\n\r\n---b-b--", Boundary),
        ("---b-b\r\n\r\n\r\n---b-b--\r\n---b-b\r\n", Boundary),
        ("---b-b\r\n---b-b\r\n\r\nx\r\n---b-b--", Boundary),
        ("---b-b\r\n---b-b: 1\r\n\r\nx\r\n---b-b--", Boundary),
        ("---b-b\r\nA: 1\n\r\nx\r\n---b-b--", Head),
        ("---b-b\r\n\nx\r\n---b-b--", Head),
    ] {
        assert_eq!(kind(body), expected, "{body:?}");
    }
    let padding = format!("---b-b{}\r\n\r\n\r\n---b-b--", " ".repeat(MAX_PADDING + 1));
    assert_eq!(kind(&padding), TooLong);
    assert_eq!(kind(&format!("---b-b\r\nA: {}", "x".repeat(MAX_HEAD))), TooLong);
    assert_eq!(kind(&"---b-b\r\n\r\n\r\n".repeat(MAX_PARTS + 1)), TooMany);
    assert!(split([format!("{}---b-b--", "---b-b\r\n\r\n\r\n".repeat(MAX_PARTS - 1)).as_bytes()]).is_ok());
}

#[test]
fn boundaries() {
    for text in ["", "a ", "a\"", "a\\", "é", "a\r\n", &"x".repeat(71)] {
        assert_eq!(Boundary::new(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(boundary(&"x".repeat(70)).delimiter().len(), 72);
}

fn soup(max: usize) -> impl Strategy<Value = String> {
    let pieces = ["\r\n", "\r\n---b-b\r\n", "---b-b", "-", "--", "-b", "b", "\n", "\r", "x", " ", "\r\n\r\n", "A:1"];
    proptest::collection::vec(select(pieces.to_vec()), 0..max).prop_map(|pieces| pieces.concat())
}

/// Without a boundary in it.
fn plain_soup() -> impl Strategy<Value = String> {
    soup(8).prop_map(|text| text.replace("---b-b", "---b_b"))
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn parts_come_out_as_they_were_put_in(
        contents in proptest::collection::vec((select(vec!["", "A: 1\r\n", "A: 1\r\nB:\r\n"]), plain_soup()), 1..5),
        cuts in proptest::collection::vec(1..9usize, 1..5),
    ) {
        let written = contents.iter().map(|(head, text)| format!("---b-b\r\n{head}\r\n{text}\r\n"));
        let body = format!("{}---b-b--", written.collect::<String>()).into_bytes();
        let expected: Vec<_> =
            contents.iter().map(|(head, text)| (head.as_bytes().to_vec(), text.as_bytes().to_vec())).collect();
        prop_assert_eq!(parts(&body), expected);
        let mut rest = &body[..];
        let mut sizes = cuts.iter().cycle();
        let chunks: Vec<&[u8]> = std::iter::from_fn(|| {
            let size = sizes.next().map_or(1, |size| *size).min(rest.len());
            let (chunk, behind) = rest.split_at(size);
            rest = behind;
            (!chunk.is_empty()).then_some(chunk)
        })
        .collect();
        prop_assert_eq!(split(chunks), split([&body[..]]));
    }

    /// Whatever is accepted has the boundary in its delimiters only: any reader finds the same parts.
    #[test]
    fn every_boundary_is_a_delimiter(inner in soup(24)) {
        let body = format!("---b-b\r\n{inner}\r\n---b-b--\r\n");
        if let Ok(told) = split([body.as_bytes()]) {
            let heads = told.0.iter().filter(|told| told.0 == "head").count();
            prop_assert_eq!(body.matches("---b-b").count(), heads + 1);
            prop_assert_eq!(format!("\r\n{body}").matches("\r\n---b-b").count(), heads + 1);
        }
    }
}

#[test]
fn heads() {
    let head = Head::parse(
        b"Content-Disposition: form-data; name=\"a%22b\"; filename=\"x\\\"y\"; filename*=UTF-8''%3Cscript%3E\r\n\
          Content-Type: Text/Plain; charset=latin1\r\nX-Note: hello\r\nContent-Length: 5\r\n",
    )
    .unwrap();
    let texts: Vec<_> = head.texts.iter().map(|text| std::str::from_utf8(text).unwrap()).collect();
    for text in ["a\"b", "a%22b", "x\"y", "x\\\"y", "<script>", "latin1", "hello"] {
        assert!(texts.contains(&text), "{text}: {texts:?}");
    }
    assert_eq!((head.name.as_deref(), head.media_type.as_deref()), (Some(&b"a%22b"[..]), Some("text/plain")));
    assert_eq!(
        (head.charset.as_deref(), head.coding, head.describes_bytes),
        (Some(&b"latin1"[..]), Coding::Identity, true)
    );
    let coding = |line: &str| Head::parse(format!("{line}\r\n").as_bytes()).unwrap().coding;
    assert_eq!(coding("Content-Transfer-Encoding: 8BIT"), Coding::Identity);
    for line in ["Content-Transfer-Encoding: base64", "content-transfer-encoding: x", "Content-Encoding: gzip"] {
        assert_eq!(coding(line), Coding::Other, "{line}");
    }
}

#[test]
fn heads_that_readers_understand_differently() {
    for lines in [
        "no colon\r\n",
        ": x\r\n",
        "A : x\r\n",
        " A: x\r\n",
        "A: x\r\n folded\r\n",
        "A: x\ry\r\n",
        "A: x\0\r\n",
        "A: x\r\na: y\r\n",
        "Content-Disposition: form-data; name=\"a\"; name=\"b\"\r\n",
        "Content-Disposition: form-data; name=a b\r\n",
        "Content-Disposition: form-data; filename*=%3C\r\n",
        "Content-Type: text/plain, x/y\r\n",
        "Content-Type:\r\n",
    ] {
        assert_eq!(Head::parse(lines.as_bytes()), Err(HeadProblem::Malformed), "{lines:?}");
    }
    for lines in [
        "Content-Disposition: form-data; name=\"=?utf-8?B?PHNjcmlwdD4=?=\"\r\n",
        "Content-Disposition: form-data; filename*0=\"a\"; filename*1=\"b\"\r\n",
        "Content-Disposition: form-data; filename*=utf-16''%00\r\n",
    ] {
        assert!(matches!(Head::parse(lines.as_bytes()), Err(HeadProblem::Undecoded(_))), "{lines:?}");
    }
}
