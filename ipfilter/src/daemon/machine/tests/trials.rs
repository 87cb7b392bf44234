//! Changes that are tried until they are confirmed.

use super::*;

fn tried(plan: &'static str, purpose: Purpose) -> Event {
    Event::Built(Ok(Built::Plan {
        plan,
        span: Span::default(),
        ahead: None,
        took: SignedDuration::ZERO,
        answers: Vec::new(),
        on_trial: Some(purpose),
    }))
}

fn reload() -> Request {
    Request::Reload(Terms::default())
}

/// A machine with a change on trial.
fn on_trial() -> Machine {
    let mut machine = Machine::new(Span::default(), None);
    assert_eq!(ask(&mut machine, reload()), ["build Reload(Command)"]);
    assert_eq!(
        swap(&mut machine, tried("new", Purpose::Change), 0, true),
        [
            "swap new Reload(Command)",
            "settle Reload(Command) true 1",
            "refresh"
        ]
    );
    machine
}

const RETURN: &str = "build Return(Return)";

#[test]
fn a_change_that_is_confirmed_stays_and_one_that_is_not_goes() {
    let confirm = || Request::Confirm(Terms::default());
    let mut machine = on_trial();
    assert_eq!(ask(&mut machine, confirm()), ["build Confirm"]);
    // The deadline passes while it is being confirmed: it was asked for in time.
    assert!(step(&mut machine, Event::Deadline, 0).is_empty());
    assert_eq!(
        step(&mut machine, Event::Built(Ok(Built::Confirmed)), 0),
        ["settle Confirm true 1", "refresh"]
    );
    assert!(step(&mut machine, Event::Deadline, 0).is_empty());

    let mut machine = on_trial();
    assert_eq!(step(&mut machine, Event::Deadline, 0), [RETURN]);
    assert!(
        step(&mut machine, Event::Deadline, 0).is_empty(),
        "once is enough"
    );
    // Too late.
    assert!(ask(&mut machine, confirm()).is_empty());
    let ended = swap(&mut machine, built("old", Span::default()), 0, true);
    assert_eq!(
        ended[..3],
        [
            "swap old Return(Return)",
            "settle Return(Return) true 0",
            "refresh"
        ]
    );
    assert!(ended[3].starts_with("refuse"), "{ended:?}");
}

#[test]
fn a_return_that_fails_is_still_due_and_one_that_cannot_be_written_confirms_nothing() {
    let mut machine = on_trial();
    step(&mut machine, Event::Deadline, 0);
    let failed = step(&mut machine, Event::Built(Err(failure())), 0);
    assert_eq!(failed, ["settle Return(Return) false 0", "refresh"]);
    assert_eq!(step(&mut machine, Event::Deadline, 5), [RETURN]);
    let failed = swap(&mut machine, built("old", Span::default()), 5, false);
    assert_eq!(failed[1], "settle Return(Return) false 0");
    ask(&mut machine, Request::Confirm(Terms::default()));
    step(&mut machine, Event::Built(Err(failure())), 6);
    assert_eq!(step(&mut machine, Event::Deadline, 10), [RETURN]);
}

#[test]
fn a_change_that_waits_for_its_confirmation_keeps_others_out() {
    let mut machine = on_trial();
    for request in [
        reload(),
        Request::Detach(Terms::default()),
        Request::Reload(Terms {
            lasts: Some(SignedDuration::from_secs(1)),
            ..Terms::default()
        }),
    ] {
        let refused = ask(&mut machine, request);
        assert!(
            refused.len() == 1 && refused[0].contains("ipfilter confirm"),
            "{refused:?}"
        );
    }
    assert!(step(&mut machine, Event::Reload, 0)[0].starts_with("refuse"));
    // Overrides are no change of the plan that is tried.
    assert_eq!(
        ask(&mut machine, Request::Override(lift(1))),
        ["build Override 1"]
    );
    swap(&mut machine, built("new", Span::default()), 0, true);
    // `rollback` rolls it back.
    let rollback = Request::Rollback(Terms::default());
    assert_eq!(ask(&mut machine, rollback), ["build Return(Rollback)"]);
    swap(&mut machine, built("old", Span::default()), 0, true);
    assert_eq!(ask(&mut machine, reload()), ["build Reload(Command)"]);
}

/// The next reload must not be built, let alone swapped in, before it is known that a trial has begun.
#[test]
fn two_confirmations_at_once_are_one() {
    let mut machine = Machine::new(Span::default(), None);
    let confirmed = |seconds| {
        Request::Reload(Terms {
            lasts: Some(SignedDuration::from_secs(seconds)),
            ..Terms::default()
        })
    };
    ask(&mut machine, confirmed(60));
    assert!(ask(&mut machine, confirmed(30)).is_empty());
    assert!(ask(&mut machine, reload()).is_empty());
    let effects = swap(&mut machine, tried("new", Purpose::Change), 0, true);
    assert_eq!(
        effects
            .iter()
            .filter(|told| told.starts_with("refuse"))
            .count(),
        2,
        "{effects:?}"
    );
    assert!(
        !effects.iter().any(|told| told.starts_with("build")),
        "{effects:?}"
    );
}

/// What the files say is looked at once the change is confirmed, and not if it is rolled back.
#[test]
fn files_that_change_meanwhile_wait() {
    for is_confirmed in [true, false] {
        let mut machine = on_trial();
        assert!(step(&mut machine, Event::Files, 0).is_empty());
        let effects = if is_confirmed {
            ask(&mut machine, Request::Confirm(Terms::default()));
            step(&mut machine, Event::Built(Ok(Built::Confirmed)), 0)
        } else {
            step(&mut machine, Event::Deadline, 0);
            swap(&mut machine, built("old", Span::default()), 0, true)
        };
        let reads = effects.contains(&"build ReloadIfChanged".to_owned());
        assert_eq!(reads, is_confirmed, "{effects:?}");
    }
}

/// Nobody would be there at the deadline.
#[test]
fn who_ends_the_process_takes_the_change_back() {
    for done in [true, false] {
        let mut machine = on_trial();
        assert_eq!(step(&mut machine, Event::Stop, 0), [RETURN]);
        let ended = swap(&mut machine, built("old", Span::default()), 0, done);
        assert_eq!(ended.last().map(String::as_str), Some("end"), "{ended:?}");
    }
    // Whoever insists need not wait.
    let mut machine = on_trial();
    step(&mut machine, Event::Stop, 0);
    assert_eq!(step(&mut machine, Event::Stop, 0), ["end"]);
}

#[test]
fn a_detached_filter_comes_back_and_is_not_confirmed() {
    let mut machine = Machine::new(Span::default(), Some(Purpose::Pause));
    for (request, why) in [
        (Request::Confirm(Terms::default()), "nothing to confirm"),
        (reload(), "detached for a while"),
    ] {
        let refused = ask(&mut machine, request);
        assert!(refused[0].contains(why), "{refused:?}");
    }
    assert_eq!(step(&mut machine, Event::Deadline, 0), [RETURN]);
    let mut machine = Machine::new(Span::default(), None);
    let refused = ask(&mut machine, Request::Confirm(Terms::default()));
    assert!(refused[0].contains("nothing to confirm"), "{refused:?}");
}
