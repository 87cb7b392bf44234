//! At each boundary of time the plan for the time after it is ready, and nothing is in its way.

use super::*;

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

/// How long before the boundary at second 10.
fn before(milliseconds: i64) -> Timestamp {
    at(10) - SignedDuration::from_millis(milliseconds)
}

/// Where it takes longer to put a plan in force, it is put off earlier.
#[test]
fn nothing_is_put_in_force_that_would_not_be_done_before_a_boundary() {
    for (took, at_once) in [(20, true), (150, false)] {
        let mut machine = amid_a_change();
        machine.occupied(SignedDuration::from_millis(took));
        let effects = machine.handle(built_twice(), before(200));
        assert_eq!(
            effects.iter().any(Effect::is_swap),
            at_once,
            "{:?}",
            told(&effects)
        );
        if !at_once {
            swaps(&mut machine, Event::Clock, at(10), "new ahead");
        }
    }
    // However long it took once: a boundary each second must not keep changes out.
    let mut machine = amid_a_change();
    machine.occupied(SignedDuration::from_mins(1));
    swaps(&mut machine, built_twice(), before(1001), "new");
}

/// Not only changes of overrides: a reload whose plan would be in the way waits, and is right afterwards.
#[test]
fn a_reload_that_is_built_just_before_a_boundary_waits_for_it() {
    let machine = || {
        let mut machine = Machine::new(span(0, 10), None);
        step(&mut machine, Event::Links, 5);
        step(&mut machine, built("old ahead", span(10, 20)), 6);
        step(&mut machine, Event::Reload, 9);
        machine
    };
    let mut with_its_own = machine();
    assert!(with_its_own.handle(built_twice(), before(10)).is_empty());
    swaps(&mut with_its_own, Event::Clock, at(10), "new ahead");
    // Without a plan of its own for the time after it, that in force has one.
    let mut without = machine();
    assert!(
        without
            .handle(built("new", span(0, 10)), before(10))
            .is_empty()
    );
    let effects = told(&without.handle(Event::Clock, at(10)));
    assert_eq!(
        effects[..2],
        ["build Reload(Signal)", "swap old ahead CatchUp"],
        "{effects:?}"
    );
}

/// A change that comes when a boundary is so near that its plan would be built too late is built after that.
#[test]
fn the_plan_for_a_boundary_that_is_near_is_built_before_anything_else() {
    let mut machine = Machine::new(span(0, 10), None);
    machine.builds.push(SignedDuration::from_millis(100));
    let (sender, _) = oneshot::channel();
    let request = Event::Asked(Request::Override(lift(1)), Requester::own(), sender);
    let effects = told(&machine.handle(request, before(440)));
    assert_eq!(effects[0], format!("build BuildAhead({})", at(10)));
    let effects = told(&machine.handle(built("ahead", span(10, 20)), before(340)));
    assert_eq!(effects[0], "build Override 1");
    // Still far away, it waits for its turn.
    let mut machine = Machine::new(span(0, 10), None);
    machine.builds.push(SignedDuration::from_millis(100));
    assert_eq!(
        told(&machine.handle(Event::Reload, before(460)))[0],
        "build Reload(Signal)"
    );
}

/// Looking after interfaces and pins takes time too.
#[test]
fn upkeep_is_put_off_until_a_boundary_has_passed() {
    let mut machine = amid_a_change();
    assert_eq!(told(&machine.handle(Event::Repair, before(60))), ["repair"]);
    for event in [Event::Repair, Event::Upkeep] {
        let effects = told(&machine.handle(event, before(40)));
        assert!(!effects.contains(&"repair".to_owned()), "{effects:?}");
    }
    // What appears is unfiltered until it is followed.
    let effects = told(&machine.handle(Event::Links, before(30)));
    assert_eq!(effects[0], "follow");
    let next = swaps(&mut machine, Event::Clock, at(10), "old ahead");
    let repairs = next.iter().filter(|told| *told == "repair").count();
    assert_eq!(repairs, 2, "{next:?}");
}
