use anyhow::anyhow;

use super::*;

type Machine = super::Machine<&'static str>;
type Event = super::Event<&'static str>;
type Effect = super::Effect<&'static str>;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn span(from: i64, until: i64) -> Span {
    Span {
        from: Some(at(from)),
        until: Some(at(until)),
    }
}

fn built(plan: &'static str, span: Span) -> Event {
    let took = SignedDuration::from_millis(100);
    Event::Built(Ok(Built::Plan {
        plan,
        span,
        ahead: None,
        took,
        answers: Vec::new(),
        on_trial: None,
    }))
}

fn failure() -> Failure {
    Failure::Other(anyhow!("refused"))
}

/// What the effects are, in short.
fn told(effects: &[Effect]) -> Vec<String> {
    let told = effects.iter().map(|effect| match effect {
        Effect::Build(task, changes, ..) if changes.is_empty() => format!("build {task:?}"),
        Effect::Build(task, changes, ..) => format!("build {task:?} {}", changes.len()),
        Effect::Swap(job, plan, _) => format!("swap {plan} {:?}", job.task),
        Effect::Settle(job, result) => {
            format!(
                "settle {:?} {} {}",
                job.task,
                result.is_ok(),
                job.replies.len()
            )
        }
        Effect::Arm(time) => format!("arm {}", time.as_second()),
        Effect::Refuse(job, failure) => format!("refuse {:?}: {failure}", job.task),
        Effect::Follow => "follow".into(),
        Effect::Refresh => "refresh".into(),
        other => format!("{other:?}").to_lowercase(),
    });
    told.collect()
}

fn step(machine: &mut Machine, event: Event, now: i64) -> Vec<String> {
    told(&machine.handle(event, at(now)))
}

/// Performs a swap as the daemon does.
fn swap(machine: &mut Machine, event: Event, now: i64, done: bool) -> Vec<String> {
    let effects = machine.handle(event, at(now));
    let mut all = told(&effects);
    for effect in effects {
        if let Effect::Swap(job, _, span) = effect {
            let result = if done { Ok(span) } else { Err(failure()) };
            all.extend(step(machine, Event::Swapped(job, result), now));
        }
    }
    all
}

#[test]
fn a_storm_of_reloads_is_two() {
    let mut machine = Machine::new(Span::default(), None);
    let mut replies = Vec::new();
    assert_eq!(
        step(&mut machine, Event::Reload, 0),
        ["build Reload(Signal)"]
    );
    for _ in 0..1000 {
        assert!(step(&mut machine, Event::Reload, 0).is_empty());
        assert!(step(&mut machine, Event::Files, 0).is_empty());
        let (sender, receiver) = oneshot::channel();
        replies.push(receiver);
        assert!(
            step(
                &mut machine,
                Event::Asked(Request::Reload(Terms::default()), Requester::own(), sender),
                0
            )
            .is_empty()
        );
    }
    // Links are served meanwhile.
    assert_eq!(step(&mut machine, Event::Links, 0), ["follow", "refresh"]);
    assert_eq!(
        swap(&mut machine, built("one", Span::default()), 1, true),
        [
            "swap one Reload(Signal)",
            "build Reload(Signal)",
            "settle Reload(Signal) true 0",
            "refresh"
        ]
    );
    assert_eq!(
        swap(&mut machine, built("two", Span::default()), 2, true),
        [
            "swap two Reload(Signal)",
            "settle Reload(Signal) true 1000",
            "refresh"
        ]
    );
}

/// Whoever asks for it gets it, though others asked for a reload before and after.
#[test]
fn a_reload_that_waits_cuts_if_anyone_asks_for_it() {
    let mut machine = Machine::new(Span::default(), None);
    for request in [
        Request::Reload(Terms::default()),
        Request::Reload(Terms::default()),
        Request::Reload(Terms {
            cut: true,
            ..Terms::default()
        }),
        Request::Reload(Terms::default()),
    ] {
        let (sender, _) = oneshot::channel();
        machine.handle(Event::Asked(request, Requester::own(), sender), at(0));
    }
    let mut cuts = Vec::new();
    for _ in 0..2 {
        for effect in machine.handle(built("plan", Span::default()), at(0)) {
            if let Effect::Swap(job, _, span) = effect {
                cuts.push(job.terms.cut);
                machine.handle(Event::Swapped(job, Ok(span)), at(0));
            }
        }
    }
    assert_eq!(cuts, [false, true]);
}

#[test]
fn requests_keep_their_order() {
    let mut machine = Machine::new(Span::default(), None);
    for request in [
        Request::Reload(Terms::default()),
        Request::Rollback(Terms::default()),
        Request::Rollback(Terms::default()),
        Request::Reload(Terms::default()),
    ] {
        let (sender, _) = oneshot::channel();
        step(
            &mut machine,
            Event::Asked(request, Requester::own(), sender),
            0,
        );
    }
    let mut built_tasks = Vec::new();
    for _ in 0..4 {
        let effects = swap(&mut machine, built("plan", Span::default()), 0, true);
        built_tasks.extend(effects.into_iter().filter(|told| told.starts_with("build")));
    }
    assert_eq!(
        built_tasks,
        ["build Rollback", "build Rollback", "build Reload(Command)"]
    );
}

#[test]
fn the_next_plan_is_built_before_its_time_and_swapped_in_at_it() {
    let mut machine = Machine::new(span(0, 100), None);
    assert_eq!(
        step(&mut machine, Event::Links, 10),
        ["follow", "refresh", "arm 95"]
    );
    assert_eq!(
        step(&mut machine, Event::Clock, 95),
        [
            format!("build BuildAhead({})", at(100)),
            "arm 100".to_owned()
        ]
    );
    assert!(step(&mut machine, built("next", span(100, 200)), 96).is_empty());
    // A reload that takes long does not delay it.
    assert_eq!(
        step(&mut machine, Event::Reload, 99),
        ["build Reload(Signal)"]
    );
    assert_eq!(
        swap(&mut machine, Event::Clock, 100, true),
        [
            "swap next CatchUp",
            "arm 9999",
            "settle CatchUp true 0",
            "refresh",
            "arm 195"
        ]
        .map(|told| told.replace("arm 9999", &format!("arm {}", Timestamp::MAX.as_second())))
    );
    // What it was building is for the time before: once more.
    assert_eq!(
        step(&mut machine, built("old", span(0, 100)), 101),
        ["build Reload(Signal)"]
    );
    assert_eq!(
        swap(&mut machine, built("new", span(100, 200)), 102, true),
        [
            "swap new Reload(Signal)",
            "settle Reload(Signal) true 0",
            "refresh"
        ]
    );
}

#[test]
fn a_clock_that_jumps_gets_the_plan_for_where_it_is() {
    let mut machine = Machine::new(span(100, 200), None);
    step(&mut machine, Event::Clock, 195);
    step(&mut machine, built("next", span(200, 300)), 196);
    // Over the next one altogether, and then before the present one.
    for (now, from, until) in [(350, 300, 400), (50, 0, 100)] {
        let effects = step(&mut machine, Event::Clock, now);
        assert!(effects.contains(&"build CatchUp".to_owned()), "{effects:?}");
        let effects = swap(&mut machine, built("there", span(from, until)), now, true);
        assert!(
            effects.contains(&"swap there CatchUp".to_owned()),
            "{effects:?}"
        );
    }
}

#[test]
fn what_fails_at_its_time_is_retried_and_nothing_ends() {
    let mut machine = Machine::new(span(0, 100), None);
    step(&mut machine, Event::Clock, 95);
    let effects = step(&mut machine, Event::Built(Err(failure())), 96);
    assert_eq!(effects.last().map(String::as_str), Some("refresh"));
    let effects = step(&mut machine, Event::Clock, 100);
    assert_eq!(effects.first().map(String::as_str), Some("build CatchUp"));
    let effects = step(&mut machine, Event::Built(Err(failure())), 101);
    assert_eq!(effects, ["settle CatchUp false 0", "refresh", "arm 106"]);
    assert!(step(&mut machine, Event::Repair, 102) == ["repair"]);
    let effects = step(&mut machine, Event::Clock, 106);
    assert_eq!(effects.first().map(String::as_str), Some("build CatchUp"));
    let effects = swap(&mut machine, built("late", span(100, 200)), 107, false);
    assert!(
        effects.contains(&"settle CatchUp false 0".to_owned()),
        "{effects:?}"
    );
    assert!(effects.contains(&"arm 112".to_owned()), "{effects:?}");
}

#[test]
fn a_plan_without_times_arms_nothing() {
    let mut machine = Machine::new(Span::default(), None);
    for event in [Event::Links, Event::Upkeep, Event::Clock] {
        let effects = step(&mut machine, event, 5);
        assert!(
            !effects.iter().any(|told| told.starts_with("arm")),
            "{effects:?}"
        );
    }
}

fn lift(last: u8) -> Change {
    Change::Remove(vec![last.into()])
}

/// A change is made at once, those after it a second later, together, and each is answered.
#[test]
fn a_storm_of_overrides_is_one_deployment_a_second() {
    let mut machine = Machine::new(Span::default(), None);
    let mut replies = Vec::new();
    let mut ask = |machine: &mut Machine, last| {
        let (sender, receiver) = oneshot::channel();
        replies.push(receiver);
        let request = Request::Override(lift(last));
        step(
            machine,
            Event::Asked(request, Requester::own(), sender),
            100,
        )
    };
    assert_eq!(ask(&mut machine, 1), ["build Override 1"]);
    for last in 2..=200 {
        let armed = ask(&mut machine, last);
        assert!(armed.is_empty() || armed == ["arm 101"], "{armed:?}");
    }
    let done = swap(&mut machine, built("a", Span::default()), 100, true);
    assert_eq!(
        done,
        ["swap a Override", "settle Override true 1", "refresh"]
    );
    assert_eq!(
        step(&mut machine, Event::Clock, 101),
        ["build Override 199"]
    );
    let done = swap(&mut machine, built("b", Span::default()), 101, false);
    assert_eq!(
        done,
        ["swap b Override", "settle Override false 199", "refresh"]
    );
    // A clock that is set back keeps nobody waiting.
    let (sender, _receiver) = oneshot::channel();
    let request = Event::Asked(Request::Override(lift(1)), Requester::own(), sender);
    assert_eq!(step(&mut machine, request, 50), ["build Override 1"]);
}

/// A machine at second 9 of a plan that is right until second 10, where a change of overrides is being built.
fn amid_a_change() -> Machine {
    let mut machine = Machine::new(span(0, 10), None);
    step(&mut machine, Event::Links, 5);
    step(&mut machine, built("old ahead", span(10, 20)), 6);
    let (sender, _) = oneshot::channel();
    let request = Event::Asked(Request::Override(lift(1)), Requester::own(), sender);
    let effects = machine.handle(request, at(9));
    let [Effect::Build(Task::Override, _, _, near), ..] = effects.as_slice() else {
        panic!("{:?}", told(&effects));
    };
    assert!(*near > at(9), "{near}");
    machine
}

/// What a change of overrides comes to: the plan for now, and that for the time after it.
fn built_twice() -> Event {
    Event::Built(Ok(Built::Plan {
        plan: "new",
        span: span(0, 10),
        ahead: Some((span(10, 20), "new ahead")),
        took: SignedDuration::from_millis(100),
        answers: Vec::new(),
        on_trial: None,
    }))
}

/// Swaps `plan` at this time, as is expected; what is done next.
fn swaps(machine: &mut Machine, event: Event, now: Timestamp, plan: &str) -> Vec<String> {
    let effects = machine.handle(event, now);
    let all = told(&effects);
    let swap = effects.into_iter().find_map(|effect| match effect {
        Effect::Swap(job, found, span) => Some((job, found, span)),
        _ => None,
    });
    let (job, found, span) = swap.unwrap_or_else(|| panic!("{all:?}"));
    assert_eq!(found, plan, "{all:?}");
    told(&machine.handle(Event::Swapped(job, Ok(span)), now))
}

/// The end of an override waits for no build: neither its own, nor that of a change.
#[test]
fn a_boundary_amid_a_change_is_only_a_swap() {
    let mut machine = amid_a_change();
    swaps(&mut machine, Event::Clock, at(10), "old ahead");
    // What was built for the time before is of no use any more, and need not be built again.
    let next = swaps(&mut machine, built_twice(), at(11), "new ahead");
    assert!(
        !next.iter().any(|told| told.starts_with("build")),
        "{next:?}"
    );
}

#[test]
fn a_boundary_soon_after_a_change_is_only_a_swap() {
    let mut machine = amid_a_change();
    let next = swaps(&mut machine, built_twice(), at(9), "new");
    assert!(
        !next.iter().any(|told| told.starts_with("build")),
        "{next:?}"
    );
    swaps(&mut machine, Event::Clock, at(10), "new ahead");
}

/// Nothing else is begun when it would be in the way.
#[test]
fn a_change_that_is_built_just_before_a_boundary_waits_for_it() {
    let mut machine = amid_a_change();
    let just_before = at(10) - SignedDuration::from_millis(10);
    let effects = told(&machine.handle(built_twice(), just_before));
    assert!(effects.is_empty(), "{effects:?}");
    let next = swaps(&mut machine, Event::Clock, at(10), "new ahead");
    assert!(
        next.contains(&"settle Override true 1".to_owned()),
        "{next:?}"
    );
    // A clock that is set back keeps nobody waiting.
    let mut machine = amid_a_change();
    machine.handle(built_twice(), just_before);
    let next = swaps(&mut machine, Event::ClockSet, at(5), "new");
    assert!(
        next.contains(&"settle Override true 1".to_owned()),
        "{next:?}"
    );
}

/// Asks for something, and keeps nobody waiting for the answer.
fn ask(machine: &mut Machine, request: Request) -> Vec<String> {
    let (sender, _) = oneshot::channel();
    step(machine, Event::Asked(request, Requester::own(), sender), 0)
}

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
