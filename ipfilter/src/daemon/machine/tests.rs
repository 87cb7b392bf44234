use anyhow::anyhow;

use super::{super::Terms, *};

mod boundaries;
mod trials;

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

/// Asks for something, and keeps nobody waiting for the answer.
fn ask(machine: &mut Machine, request: Request) -> Vec<String> {
    let (sender, _) = oneshot::channel();
    step(machine, Event::Asked(request, Requester::own(), sender), 0)
}
