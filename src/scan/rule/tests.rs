use super::*;

#[test]
fn words_read_back_as_written() {
    for action in [Action::Observe, Action::Redact, Action::Sanitize, Action::Block] {
        assert_eq!(action.to_string().parse(), Ok(action));
    }
    for direction in [Direction::Request, Direction::Response] {
        assert_eq!(direction.to_string().parse(), Ok(direction));
    }
}

#[test]
fn other_words_are_refused_by_name() {
    let error = "Block".parse::<Action>().unwrap_err();
    assert_eq!(error.to_string(), "`Block` is not one of observe, redact, sanitize, block");
    assert!("responses".parse::<Direction>().is_err());
}
