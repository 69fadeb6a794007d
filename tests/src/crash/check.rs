//! The checker: what a server recovered, against what was written, acknowledged and promised.

use super::report::Tally;
use super::work::State;
use super::writer::History;
use crate::client::Client;

/// Where one writer's recovered data stands.
#[derive(Clone, Debug)]
struct Place {
    state: State,
    /// It is the state after each of these units: more than one where units changed nothing.
    low: u64,
    high: u64,
}

/// Finds `state` among the states after `history`'s units.
fn locate(history: &History, state: State) -> Result<Place, String> {
    let mut model = history.base.clone();
    let (mut low, mut high) = (None, 0);
    for n in history.from..=history.end() {
        if n > history.from {
            history.work.apply(n, &mut model);
        }
        if model == state {
            low.get_or_insert(n);
            high = n;
        } else if low.is_some() && n > high + 64 {
            // Each state is made once, give or take units that change nothing.
            break;
        }
    }
    match low {
        Some(low) => Ok(Place { state, low, high }),
        None => Err(nearest(history, &state)),
    }
}

/// What is wrong with a state that no number of units makes: the nearest one, by `last` or by the end.
fn nearest(history: &History, state: &State) -> String {
    let mut model = history.base.clone();
    let mut best: Option<(u64, State)> = None;
    for n in history.from..=history.end() {
        if n > history.from {
            history.work.apply(n, &mut model);
        }
        if best.is_none() || model.likeness(state) > best.as_ref().map_or(0, |(_, s)| s.likeness(state)) {
            best = Some((n, model.clone()));
        }
    }
    let (n, model) = best.expect("there is the base");
    format!(
        "writer {}: no state between unit {} and {} (acknowledged {}) is what was recovered; nearest is {n}: {}",
        history.work.writer,
        history.from,
        history.end(),
        history.acknowledged_end(),
        model.difference(state)
    )
}

/// What a check means for the histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// What was not recovered is gone: they begin anew from what was.
    Restart,
    /// What was recovered is an old copy of data that goes on elsewhere: they are only shortened.
    Look,
}

/// Reads every writer's data and checks it. Returns the units found, by writer, if all is well.
///
/// `floors` are the units promised to be there, by writer.
pub fn check(
    client: &mut Client,
    histories: &mut [History],
    floors: &[u64],
    after: After,
    tally: &mut Tally,
) -> Option<Vec<u64>> {
    let mut places = Vec::new();
    let failures = tally.failures.len();
    for history in histories.iter() {
        let place = match history.work.read(client) {
            Ok(state) => locate(history, state),
            Err(e) => Err(format!("writer {}: {e}", history.work.writer)),
        };
        match place {
            Ok(place) => places.push(place),
            Err(text) => {
                tally.half_applied += 1;
                tally.failures.push(text);
            }
        }
    }
    if tally.failures.len() > failures {
        return None;
    }
    for ((history, place), &floor) in histories.iter().zip(&places).zip(floors) {
        tally.checked += floor.saturating_sub(history.from);
        if after == After::Restart {
            tally.gone += history.acknowledged_end().saturating_sub(place.high.max(floor));
        }
        if place.high < floor {
            tally.lost += floor - place.high;
            tally.failures.push(format!(
                "writer {}: {floor} units were promised ({} acknowledged, {} sent), {} are there",
                history.work.writer,
                history.acknowledged_end(),
                history.end(),
                place.high
            ));
        }
    }
    one_moment(histories, &places, tally);
    if tally.failures.len() > failures {
        return None;
    }
    let found = places.iter().map(|place| place.low).collect();
    for (history, place) in histories.iter_mut().zip(places) {
        match after {
            After::Restart => history.rebase(place.state, place.high),
            After::Look => history.forget(place.state, place.low),
        }
    }
    Some(found)
}

/// All writers must stand at one moment: nothing acknowledged before a surviving unit was sent may be missing.
fn one_moment(histories: &[History], places: &[Place], tally: &mut Tally) {
    let sent = |(history, place): (&History, &Place)| {
        let index = place.low.checked_sub(history.from + 1)?;
        history.sent.get(index as usize).copied()
    };
    let Some(latest) = histories.iter().zip(places).filter_map(sent).max() else { return };
    for (history, place) in histories.iter().zip(places) {
        let missing = (place.high - history.from) as usize;
        if history.acknowledged.get(missing).is_some_and(|&tick| tick < latest) {
            tally.lost += 1;
            tally.failures.push(format!(
                "writer {}: unit {} is missing, which was acknowledged before another writer sent one that is there",
                history.work.writer,
                place.high + 1
            ));
        }
    }
}
