//! Directives of several words: save points, output buffer limits, addresses and the like. Each knows how its
//! words are read (and whether lines of a file add up), shown and written back.

use super::values::{Origin, Setting, Spec, line, memory_size, one, size_with_unit};

/// More addresses than this in `bind` are refused.
pub(crate) const MAX_BIND_ADDRESSES: usize = 16;

/// Joins words the way CONFIG GET shows them.
fn joined<T: AsRef<[u8]>>(words: &[T]) -> Vec<u8> {
    words.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>().join(&b' ')
}

fn is_empty_value(words: &[Vec<u8>]) -> bool {
    matches!(words, [word] if word.is_empty())
}

fn whole<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.trim_start().parse().ok()
}

/// One `save` point: save once `changes` were made and `seconds` have passed since the last save.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SavePoint {
    /// Seconds since the last save.
    pub(crate) seconds: u64,
    /// Changes since the last save.
    pub(crate) changes: u64,
}

/// Every `save` point; none: no saving by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SavePoints(pub(crate) Vec<SavePoint>);

impl Default for SavePoints {
    fn default() -> Self {
        let point = |(seconds, changes)| SavePoint { seconds, changes };
        SavePoints([(3600, 1), (300, 100), (60, 10000)].map(point).to_vec())
    }
}

impl Setting for SavePoints {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, origin: Origin) -> Result<(), String> {
        const BAD: &str = "Invalid save parameters";
        if is_empty_value(words) {
            self.0.clear();
            return Ok(());
        }
        if !words.len().is_multiple_of(2) {
            return Err(BAD.into());
        }
        let mut points = Vec::new();
        for pair in words.chunks_exact(2) {
            let (seconds, changes): (u64, u64) =
                whole(&pair[0]).zip(whole(&pair[1])).filter(|(s, _)| *s >= 1).ok_or(BAD)?;
            points.push(SavePoint { seconds, changes });
        }
        // Within a file the lines add up; the first one takes the place of the defaults.
        if origin != (Origin::File { first: false }) {
            self.0.clear();
        }
        self.0.extend(points);
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        joined(&self.0.iter().map(|p| format!("{} {}", p.seconds, p.changes)).collect::<Vec<_>>())
    }

    fn lines(&self, name: &str, _: &Spec) -> Vec<Vec<u8>> {
        if self.0.is_empty() {
            return vec![line(name, b"\"\"")];
        }
        self.0.iter().map(|p| format!("{name} {} {}", p.seconds, p.changes).into_bytes()).collect()
    }
}

/// The kinds of client an output buffer limit is set for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClientClass {
    /// Ordinary clients.
    Normal,
    /// Replicas.
    Replica,
    /// Subscribers.
    Pubsub,
}

impl ClientClass {
    /// The class of a name; `slave` is the old name of `replica`.
    pub(crate) fn of(word: &[u8]) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_slice() {
            b"normal" => ClientClass::Normal,
            b"replica" | b"slave" => ClientClass::Replica,
            b"pubsub" => ClientClass::Pubsub,
            _ => return None,
        })
    }
}

/// When a client that does not read its replies is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OutputLimit {
    /// At once beyond this many bytes; 0: never.
    pub(crate) hard: u64,
    /// Beyond this many bytes for `seconds` on end; 0: never.
    pub(crate) soft: u64,
    /// How long the soft limit may be exceeded.
    pub(crate) seconds: u64,
}

/// `client-output-buffer-limit`, one limit a class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OutputLimits([OutputLimit; 3]);

impl OutputLimits {
    /// The limit of a class.
    pub(crate) fn of(&self, class: ClientClass) -> OutputLimit {
        self.0[class as usize]
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &OutputLimit)> {
        ["normal", "slave", "pubsub"].into_iter().zip(&self.0)
    }
}

impl Default for OutputLimits {
    fn default() -> Self {
        let limit = |(hard, soft, seconds)| OutputLimit { hard, soft, seconds };
        OutputLimits([(0, 0, 0), (256 << 20, 64 << 20, 60), (32 << 20, 8 << 20, 60)].map(limit))
    }
}

impl Setting for OutputLimits {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        if words.is_empty() || !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        let mut limits = self.clone();
        for part in words.chunks_exact(4) {
            let class = ClientClass::of(&part[0])
                .ok_or("Invalid client class specified in buffer limit configuration.")?;
            let limit = (|| {
                let (hard, soft) = (memory_size(&part[1])?, memory_size(&part[2])?);
                Some(OutputLimit { hard, soft, seconds: whole(&part[3])? })
            })();
            limits.0[class as usize] =
                limit.ok_or("Error in hard, soft or soft_seconds setting in buffer limit configuration.")?;
        }
        *self = limits;
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        let parts: Vec<_> =
            self.named().map(|(class, l)| format!("{class} {} {} {}", l.hard, l.soft, l.seconds)).collect();
        joined(&parts)
    }

    fn lines(&self, name: &str, _: &Spec) -> Vec<Vec<u8>> {
        // The file gets the modern name of the class.
        let modern = |class| if class == "slave" { "replica" } else { class };
        let text = |bytes| String::from_utf8_lossy(&size_with_unit(bytes)).into_owned();
        self.named()
            .map(|(class, l)| {
                format!("{name} {} {} {} {}", modern(class), text(l.hard), text(l.soft), l.seconds)
                    .into_bytes()
            })
            .collect()
    }
}

/// The addresses to listen on; `*` is every IPv4 address, `::*` every IPv6 one, a leading `-` makes one optional.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bind(pub(crate) Vec<String>);

impl Default for Bind {
    fn default() -> Self {
        Bind(vec!["*".into(), "-::*".into()])
    }
}

impl Setting for Bind {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        if words.len() > MAX_BIND_ADDRESSES {
            return Err("Too many bind addresses specified.".into());
        }
        let words = if is_empty_value(words) { &[] } else { words };
        let addresses: Result<_, _> = words.iter().map(|w| String::from_utf8(w.clone())).collect();
        self.0 = addresses.map_err(|_| "argument must be valid UTF-8")?;
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        joined(&self.0)
    }

    fn lines(&self, name: &str, spec: &Spec) -> Vec<Vec<u8>> {
        vec![line(name, &if self.0.is_empty() { b"\"\"".to_vec() } else { self.show(spec) })]
    }
}

/// The primary to replicate from, if any: host and port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ReplicaOf(pub(crate) Option<(String, u16)>);

impl Setting for ReplicaOf {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        let [host, port] = words else {
            return Err("wrong number of arguments".into());
        };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            self.0 = None;
            return Ok(());
        }
        let port = whole(port).ok_or("Invalid master port")?;
        let host = String::from_utf8(host.clone()).map_err(|_| "argument must be valid UTF-8")?;
        self.0 = Some((host, port));
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        self.0.as_ref().map(|(host, port)| format!("{host} {port}").into_bytes()).unwrap_or_default()
    }

    fn lines(&self, name: &str, spec: &Spec) -> Vec<Vec<u8>> {
        self.0.as_ref().map(|_| line(name, &self.show(spec))).into_iter().collect()
    }
}

/// `oom-score-adj-values`: for a primary, a replica and a child process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OomScores(pub(crate) [i32; 3]);

impl Setting for OomScores {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        let words: &[Vec<u8>; 3] = words.try_into().map_err(|_| "wrong number of arguments")?;
        let mut values = [0; 3];
        for (value, word) in values.iter_mut().zip(words) {
            *value = whole(word)
                .filter(|v| (-2000..=2000).contains(v))
                .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")?;
        }
        self.0 = values;
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        joined(&self.0.map(|v| v.to_string()))
    }
}

/// Percentiles of a latency report, between 0 and 100.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Percentiles(pub(crate) Vec<f64>);

impl Setting for Percentiles {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        let words = if is_empty_value(words) { &[] } else { words };
        let mut values = Vec::with_capacity(words.len());
        for word in words {
            let value: f64 = whole(word).ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&value) {
                return Err(
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into()
                );
            }
            values.push(value);
        }
        self.0 = values;
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        joined(&self.0.iter().map(f64::to_string).collect::<Vec<_>>())
    }

    fn lines(&self, name: &str, spec: &Spec) -> Vec<Vec<u8>> {
        vec![line(name, &if self.0.is_empty() { b"\"\"".to_vec() } else { self.show(spec) })]
    }
}

/// The event classes of keyspace notifications, kept in the order they are shown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct KeyspaceEvents(u32);

impl KeyspaceEvents {
    /// Every class letter but `A`, in the order CONFIG GET shows them.
    const LETTERS: &'static [u8] = b"g$lshzxetdKEmn";
    /// The classes `A` stands for: all but keyspace, keyevent, misses and new keys.
    const ALL: u32 = (1 << 10) - 1;
}

impl Setting for KeyspaceEvents {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        let mut classes = 0;
        for letter in one(words)? {
            classes |= match Self::LETTERS.iter().position(|l| l == letter) {
                Some(bit) => 1 << bit,
                None if *letter == b'A' => Self::ALL,
                None => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
            };
        }
        self.0 = classes;
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        let all = self.0 & Self::ALL == Self::ALL;
        let shown = |bit: usize| self.0 >> bit & 1 == 1 && !(all && 1 << bit & Self::ALL != 0);
        let letters = Self::LETTERS.iter().enumerate().filter(|(bit, _)| shown(*bit)).map(|(_, l)| *l);
        all.then_some(b'A').into_iter().chain(letters).collect()
    }

    fn lines(&self, name: &str, spec: &Spec) -> Vec<Vec<u8>> {
        vec![line(name, &super::words::quote(&self.show(spec)))]
    }
}

/// What a termination signal does: nothing set is the default (save when save points are configured).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct OnSignal {
    /// Save even without save points.
    pub(crate) save: bool,
    /// Do not save.
    pub(crate) nosave: bool,
    /// Do not wait for lagging replicas.
    pub(crate) now: bool,
    /// Exit even if saving fails.
    pub(crate) force: bool,
}

impl Setting for OnSignal {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        let mut action = OnSignal::default();
        if words.is_empty() {
            return Err(Self::expected());
        }
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"default" => {}
                b"save" => action.save = true,
                b"nosave" => action.nosave = true,
                b"now" => action.now = true,
                b"force" => action.force = true,
                _ => return Err(Self::expected()),
            }
        }
        if action.save && action.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
        }
        *self = action;
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        let words = [(self.save, "save"), (self.nosave, "nosave"), (self.now, "now"), (self.force, "force")];
        let set: Vec<_> = words.into_iter().filter(|(on, _)| *on).map(|(_, w)| w).collect();
        if set.is_empty() { b"default".to_vec() } else { joined(&set) }
    }
}

impl OnSignal {
    fn expected() -> String {
        "argument(s) must be one of the following: default, save, nosave, now, force".into()
    }
}

/// A memory size, or a share of `maxmemory`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SizeOrPercent {
    /// Bytes.
    Bytes(u64),
    /// Percent of `maxmemory`.
    Percent(u32),
}

impl Setting for SizeOrPercent {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        let word = one(words)?;
        let value = match word.strip_suffix(b"%") {
            Some(share) => whole(share).map(SizeOrPercent::Percent),
            None => memory_size(word).map(SizeOrPercent::Bytes),
        };
        *self = value.ok_or("argument must be a memory or percent value")?;
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        match self {
            SizeOrPercent::Bytes(bytes) => bytes.to_string().into_bytes(),
            SizeOrPercent::Percent(share) => format!("{share}%").into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given<S: Setting>(value: &mut S, text: &str, origin: Origin) -> Result<String, String> {
        let words: Vec<_> = text.split(' ').map(|w| w.as_bytes().to_vec()).collect();
        value.assign(&words, &Spec::Any, origin)?;
        Ok(String::from_utf8(value.show(&Spec::Any)).expect("text"))
    }

    #[test]
    fn save_lines_add_up_in_a_file_and_replace_at_run_time() {
        let mut save = SavePoints::default();
        assert_eq!(given(&mut save, "900 1", Origin::File { first: true }), Ok("900 1".into()));
        assert_eq!(given(&mut save, "300 10", Origin::File { first: false }), Ok("900 1 300 10".into()));
        assert_eq!(given(&mut save, "60 5", Origin::Runtime), Ok("60 5".into()));
        assert_eq!(given(&mut save, "", Origin::Runtime), Ok("".into()));
        assert_eq!(save.lines("save", &Spec::Any), [b"save \"\"".to_vec()]);
        for bad in ["60", "a b", "0 1", "1 -1", "900 1 300"] {
            assert_eq!(
                given(&mut save, bad, Origin::Runtime),
                Err("Invalid save parameters".into()),
                "{bad}"
            );
        }
    }

    #[test]
    fn output_limits_change_only_the_classes_named() {
        let mut limits = OutputLimits::default();
        assert_eq!(
            given(&mut limits, "normal 1mb 2 3 replica 1 1 1", Origin::Runtime).as_deref(),
            Ok("normal 1048576 2 3 slave 1 1 1 pubsub 33554432 8388608 60")
        );
        assert!(
            given(&mut limits, "zz 1 2 3", Origin::Runtime)
                .is_err_and(|e| e.starts_with("Invalid client class"))
        );
        assert_eq!(limits.lines("l", &Spec::Any)[1], b"l replica 1 1 1");
    }

    #[test]
    fn events_are_shown_in_their_own_order() {
        let mut events = KeyspaceEvents::default();
        assert_eq!(given(&mut events, "KEA", Origin::Runtime), Ok("AKE".into()));
        assert_eq!(given(&mut events, "Kgl", Origin::Runtime), Ok("glK".into()));
        assert!(given(&mut events, "q", Origin::Runtime).is_err());
    }

    #[test]
    fn signals_percentiles_and_shares() {
        let mut on = OnSignal::default();
        assert_eq!(given(&mut on, "save now", Origin::Runtime), Ok("save now".into()));
        assert!(given(&mut on, "save nosave", Origin::Runtime).is_err());
        assert_eq!(given(&mut Percentiles(vec![]), "50 99.99", Origin::Runtime), Ok("50 99.99".into()));
        assert_eq!(given(&mut SizeOrPercent::Bytes(0), "10%", Origin::Runtime), Ok("10%".into()));
        assert_eq!(given(&mut ReplicaOf(None), "a b", Origin::Runtime), Err("Invalid master port".into()));
    }
}
