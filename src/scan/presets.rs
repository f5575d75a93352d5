//! The rules that come with the program.
//!
//! A name enters, rules leave. Every pattern here is ASCII only and spells its white
//! space out, because `\s`, `\w`, `\b` and `(?i)` mean different things to the languages
//! that will read the text.

use super::rule::Rule;

/// The rules of the preset called `name`, in order of preference.
///
/// - `seed`: the three patterns of the source document's `sanitizeAIInput` and
///   `validateAIResponse`, exactly. `event-handler` also finds `connection =` in ordinary
///   code, and `script-element` has no bound on its length.
/// - `html`: markup that runs scripts, in context and bounded. An attribute that browsers know as a handler is seen
///   wherever something is called or assigned in it, however long its tag is. Any other attribute whose name begins
///   with `on`, and `onload = f()` written as programs write it, are seen only in the first 256 bytes of a tag, and not
///   behind a quoted `<` or `>`.
/// - `secrets`: tokens whose shape is documented by who issues them. `private-key` finds
///   the first line of a key only, so block on it; redacting would leave the rest.
/// - `context`: a line that imitates the owner line of a prompt's context. Routes with a context look for it unasked.
pub fn preset(name: &str) -> Option<Vec<Rule>> {
    let rules: &[(&str, &str)] = match name {
        "seed" => SEED,
        "html" => HTML,
        "secrets" => SECRETS,
        "context" => CONTEXT,
        _ => return None,
    };
    let rule = |&(id, pattern): &(&str, &str)| match id {
        "html-javascript-url" => Rule::new(id, format!("(?i-u:{})", spaced("javascript:"))),
        "html-data-url" => Rule::new(id, data_url()),
        "html-handler-attribute" => Rule::new(id, handler_attribute()),
        "html-srcdoc" => Rule::new(id, srcdoc()),
        _ => Rule::new(id, pattern),
    };
    Some(rules.iter().map(rule).collect())
}

/// A word with the white space between its characters that browsers drop inside of a URL.
///
/// The space is bounded: more than anyone writes by mistake is itself a match, so that
/// no amount of it hides the rest.
fn spaced(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    let rest = rest
        .chars()
        .rev()
        .fold(String::new(), |rest, character| format!(r"(?:[\t\n\r]{{32}}|[\t\n\r]{{0,31}}{character}{rest})"));
    format!("{first}{rest}")
}

/// A URL that is a document.
fn data_url() -> String {
    format!(r"(?i-u:\b{}[\t\n\x0C\r ]{{0,31}}{})", spaced("data:"), spaced("text/html"))
}

/// An attribute by one of the names of [`HANDLERS`], in which something is called, assigned, looked up or quoted.
///
/// It needs no tag before it, so that none is too long and no quoted `<` or `>` hides it. What is done with the value
/// tells it from arguments such as `onerror=None`.
fn handler_attribute() -> String {
    let names = HANDLERS.split_whitespace().collect::<Vec<_>>().join("|");
    let bare = r#"[^\t\n\x0C\r >(`=&\[{"'\\]"#;
    // A longer word than is written by hand counts as such.
    let value = format!(r#"(?:{bare}{{32}}|{bare}{{0,31}}[(`=&\[{{"'\\])"#);
    format!(r"(?i-u:\bon(?:{names}){})", assigned(&value))
}

/// A document in an attribute, in which markup is written as entities.
fn srcdoc() -> String {
    format!(r"(?i-u:\bsrcdoc{})", assigned(r"[^\t\n\x0C\r >]"))
}

/// `=` and a value, with any white space but one space on either side: that is how programs set a property, and in
/// HTML there is seldom any. So written only a quoted value counts.
///
/// Longer gaps than are written by hand are matches themselves, so that no white space hides what is behind it.
fn assigned(value: &str) -> String {
    let space = r"[\t\n\x0C\r ]";
    let odd = r"(?:[\t\n\x0C\r]|  )";
    let behind = format!("(?:{space}{{16}}|{space}{{0,15}}{value})");
    // Names stand in front of wide gaps where texts are set in columns.
    let before = format!("(?:{space}{{64}}|{space}{{0,63}}={behind})");
    format!(r#"(?:={behind}| =(?:{value}|{odd}{behind}| ["'])|{odd}{before})"#)
}

/// The names of all presets.
pub const NAMES: [&str; 4] = ["seed", "html", "secrets", "context"];

/// The source document's patterns, in the form that means in bytes what they mean there.
///
/// The first is the lazy form of a loop that cannot give back; `\s` includes U+FEFF and
/// lacks U+0085; the case of ASCII letters is ignored, and no other letter is one.
const SEED: &[(&str, &str)] = &[
    ("script-element", r"(?s-u:(?i:<script)\b.*?(?i:</script>))"),
    ("javascript-url", r"(?i-u:javascript:)"),
    (
        "event-handler",
        concat!(
            r"(?i-u:on[0-9A-Za-z_]+)",
            r"[\t\n\x0B\x0C\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}]*=",
        ),
    ),
];

/// The names of browsers' event handlers, without their `on`: those of HTML, SVG and the DOM, and what old ones had.
const HANDLERS: &str = "\
    abort activate afterprint afterscriptexecute animationcancel animationend animationiteration animationstart \
    auxclick beforeactivate beforecopy beforecut beforedeactivate beforeinput beforematch beforepaste beforeprint \
    beforescriptexecute beforetoggle beforeunload beforexrselect begin blur bounce cancel canplay canplaythrough \
    change click close command contentvisibilityautostatechange contextlost contextmenu contextrestored copy \
    cuechange cut dblclick deactivate drag dragend dragenter dragexit dragleave dragover dragstart drop \
    durationchange emptied encrypted end ended error finish focus focusin focusout formdata fullscreenchange \
    fullscreenerror gesturechange gestureend gesturestart gotpointercapture hashchange input invalid keydown \
    keypress keyup languagechange load loadeddata loadedmetadata loadend loadstart lostpointercapture message \
    messageerror mousedown mouseenter mouseleave mousemove mouseout mouseover mouseup mousewheel \
    mozfullscreenchange offline online orientationchange pagehide pagereveal pageshow pageswap paste pause play \
    playing pointercancel pointerdown pointerenter pointerleave pointermove pointerout pointerover \
    pointerrawupdate pointerup popstate progress promptaction promptdismiss ratechange readystatechange \
    rejectionhandled repeat reset resize scroll scrollend scrollsnapchange scrollsnapchanging search \
    securitypolicyviolation seeked seeking select selectionchange selectstart show slotchange stalled start \
    storage submit suspend timeupdate toggle touchcancel touchend touchmove touchstart transitioncancel \
    transitionend transitionrun transitionstart unhandledrejection unload validationstatuschange volumechange \
    waiting waitingforkey webkitanimationend webkitanimationiteration webkitanimationstart webkitfullscreenchange \
    webkitfullscreenerror webkitmouseforcechanged webkitmouseforcedown webkitmouseforceup \
    webkitmouseforcewillbegin webkitplaybacktargetavailabilitychanged webkittransitionend webkitwillrevealbottom \
    wheel zoom";

const HTML: &[(&str, &str)] = &[
    // The opener is enough, and it is short; how the element ends does not matter.
    ("html-script", r"(?i-u:<script[\t\n\x0C\r />])"),
    // The scheme is written out by `spaced`.
    ("html-javascript-url", ""),
    // Written out by `data_url`. Pictures are left out: they run nothing where pictures stand.
    ("html-data-url", ""),
    // Written out by `srcdoc`.
    ("html-srcdoc", ""),
    // Written out by `handler_attribute`.
    ("html-handler-attribute", ""),
    // Longer names and wider gaps than handlers have are matches themselves.
    (
        "html-event-handler",
        concat!(
            r"(?i-u:<[a-z][a-z0-9:_-]{0,30}[\t\n\x0C\r /]",
            r#"(?:[^<>]{0,223}[\t\n\x0C\r /"'])?"#,
            r"on(?:[a-z]{13}|[a-z]{1,12}(?:[\t\n\x0C\r ]{4}|[\t\n\x0C\r ]{0,3}=)))",
        ),
    ),
];

/// A counted part sets the least that makes a token; the open end takes all of it when it
/// is redacted. Blocking never waits for that end.
const SECRETS: &[(&str, &str)] = &[
    ("aws-access-key-id", r"(?-u:\b(?:AKIA|ASIA)[A-Z2-7]{16}\b)"),
    ("github-token", r"(?-u:\bgh[pousr]_[0-9A-Za-z]{36,})"),
    ("github-fine-grained-token", r"(?-u:\bgithub_pat_[0-9A-Za-z_]{60,})"),
    ("slack-token", r"(?-u:\bxox[abeoprs]-[0-9A-Za-z-]{10,})"),
    ("anthropic-key", r"(?-u:\bsk-ant-[0-9A-Za-z_-]{20,})"),
    ("openai-project-key", r"(?-u:\bsk-(?:proj|svcacct|admin|None)-[0-9A-Za-z_-]{20,})"),
    ("openai-key", r"(?-u:\bsk-[0-9A-Za-z]{32,})"),
    ("stripe-key", r"(?-u:\b[sr]k_(?:live|test)_[0-9A-Za-z]{16,})"),
    ("google-api-key", r"(?-u:\bAIza[0-9A-Za-z_-]{35})"),
    ("private-key", r"(?-u:-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----)"),
    // A header in base64 that begins with a member that headers have.
    (
        "json-web-token",
        concat!(
            r"(?-u:\beyJ(?:hbGciOi|0eXAiOi|raWQiOi|qa3UiOi|4NXQiOi|lbmMiOi|jdHkiOi|6aXAiOi)",
            r"[0-9A-Za-z_-]{10,}(?:\.[0-9A-Za-z_-]*){0,4})",
        ),
    ),
];

/// Every character that some reader takes for the end of a line begins a new one, and what looks like nothing or like a
/// colon counts as such.
const CONTEXT: &[(&str, &str)] = &[(
    "context-owner",
    concat!(
        r"(?:(?m-u:^)|[\x0B\x0C\r\x1C-\x1E\u{85}\u{2028}\u{2029}])",
        r"[\t \u{a0}\u{ad}\u{1680}\u{2000}-\u{200f}\u{202f}\u{205f}\u{2060}\u{3000}\u{feff}]*",
        r"(?i-u:ContextOwner)",
        r"[\t \u{a0}\u{ad}\u{1680}\u{2000}-\u{200f}\u{202f}\u{205f}\u{2060}\u{3000}\u{feff}]*[:\u{fe55}\u{ff1a}]",
    ),
)];

#[cfg(test)]
mod tests;
