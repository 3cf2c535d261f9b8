//! Values of a matrix field that are not written one by one: `range`, `log_range`, and what `sample` draws from.

use super::node::{Node, Spot, Value};
use super::problem::{Problem, ProblemKind, suggest};

/// Values of one range: as many as a pipeline can have stages.
const MOST: usize = 100_000;
/// Significant digits of values that are computed, so that 0.1 + 0.2 is 0.3.
const COMPUTED: i32 = 12;
/// Those of values between the ends of a `log_range`, and of what is drawn: members are called by them.
const READABLE: i32 = 4;

/// A `range` or `log_range`.
pub(super) struct Range {
    from: f64,
    to: f64,
    step: Option<f64>,
    n: Option<usize>,
    is_log: bool,
    /// All numbers are written as integers, and so are the values.
    is_whole: bool,
    spot: Spot,
}

/// The values of a field: those of a list, of a range, or one alone; `None` where something is wrong with a range,
/// which is reported.
pub(super) fn values(node: &Node, problems: &mut Vec<Problem>) -> Option<Vec<Node>> {
    if let Some((name, body)) = body(node) {
        let range = Range::read(name, body, problems)?;
        return match range.points() {
            Ok(points) => {
                let spot = node.spot;
                Some(points.into_iter().map(|value| Node { value, spot }).collect())
            }
            Err(kind) => {
                problems.push(Problem::at(range.spot, kind));
                None
            }
        };
    }
    Some(match &node.value {
        Value::List(items) => items.clone(),
        _ => vec![node.clone()],
    })
}

/// The mapping of a range, with its name: a mapping with nothing but that key.
fn body(node: &Node) -> Option<(&str, &Node)> {
    match node.as_map()? {
        [(key, body)] if ["range", "log_range"].contains(&key.text.as_str()) && body.as_map().is_some() => {
            Some((&key.text, body))
        }
        _ => None,
    }
}

/// A number of things, at least one.
pub(super) fn count(map: &Node, name: &'static str, problems: &mut Vec<Problem>) -> Option<usize> {
    let Some(node) = map.get(name) else {
        let kind = ProblemKind::Missing {
            what: "key",
            name: name.to_owned(),
            hint: Some(format!("`{name}` is how many there are to be")),
        };
        problems.push(Problem::at(map.spot, kind));
        return None;
    };
    let found = match &node.value {
        Value::Int(number, _) => usize::try_from(*number).ok().filter(|n| (1..=MOST).contains(n)),
        _ => None,
    };
    if found.is_none() && !matches!(node.value, Value::Unknown) {
        let kind = ProblemKind::OutOfRange {
            value: format!("`{name}`"),
            limit: format!("a whole number from 1 to {MOST}"),
        };
        problems.push(Problem::at(node.spot, kind));
    }
    found
}

impl Range {
    /// `None` where something is wrong, which is reported.
    fn read(name: &str, body: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let before = problems.len();
        let is_log = name == "log_range";
        let names: &[&str] = if is_log {
            &["from", "to", "n"]
        } else {
            &["from", "to", "step", "n"]
        };
        let entries = body.as_map().unwrap_or_default();
        super::validate::report_duplicates(entries, problems);
        for (key, _) in entries.iter().filter(|(key, _)| !names.contains(&key.text.as_str())) {
            let kind = ProblemKind::UnknownName {
                what: "key of a range",
                name: key.text.clone(),
                suggestion: suggest(&key.text, names.iter().copied()),
                valid: names.iter().map(|name| (*name).to_owned()).collect(),
            };
            problems.push(Problem::at(key.spot, kind));
        }
        let mut is_whole = true;
        let mut number = |name: &'static str, problems: &mut Vec<Problem>| {
            let node = body.get(name)?;
            let found = match &node.value {
                Value::Int(number, _) => Some(*number as f64),
                Value::Float(number, _) if number.is_finite() => {
                    is_whole = false;
                    Some(*number)
                }
                _ => None,
            };
            if found.is_none() && !matches!(node.value, Value::Unknown) {
                let kind = ProblemKind::WrongType {
                    expected: "a number".into(),
                    found: node.type_name().into(),
                };
                problems.push(Problem::at(node.spot, kind));
            }
            found
        };
        let (from, to, step) = (
            number("from", problems),
            number("to", problems),
            number("step", problems),
        );
        for end in ["from", "to"].into_iter().filter(|end| body.get(end).is_none()) {
            let kind = ProblemKind::Missing {
                what: "key",
                name: end.to_owned(),
                hint: Some(format!("a `{name}` goes from `from` to `to`, both included")),
            };
            problems.push(Problem::at(body.spot, kind));
        }
        let n = body.get("n").and_then(|_| count(body, "n", problems));
        let range = Self {
            from: from?,
            to: to?,
            step,
            n,
            is_log,
            is_whole,
            spot: body.spot,
        };
        if range.is_log && !(range.from > 0.0 && range.to > 0.0) {
            let kind = ProblemKind::OutOfRange {
                value: "an end of a `log_range`".into(),
                limit: "larger than 0".into(),
            };
            problems.push(Problem::at(body.spot, kind));
        }
        (problems.len() == before).then_some(range)
    }

    /// Both ends and what lies between them.
    fn points(&self) -> Result<Vec<Value>, ProblemKind> {
        let inconsistent = |message: &str| {
            let message = message.to_owned();
            Err(ProblemKind::Inconsistent { message })
        };
        match (self.n, self.step) {
            (Some(_), Some(_)) => inconsistent("`step` and `n` both say how many values there are: give one of them"),
            (Some(1), None) if self.from != self.to => inconsistent("one value cannot be both ends; `n` is 2 or more"),
            (Some(n), None) => {
                let last = (n - 1).max(1) as f64;
                let point = |place: usize| match place {
                    0 => self.from,
                    place if place == n - 1 => self.to,
                    place => self.between(place as f64 / last, if self.is_log { READABLE } else { COMPUTED }),
                };
                Ok((0..n).map(|place| self.value(point(place))).collect())
            }
            (None, None) if self.is_log => inconsistent("a `log_range` needs `n`, how many values there are to be"),
            (None, None) if !self.is_whole => {
                inconsistent("a `range` of numbers that are not whole needs `step`, or `n`, how many there are to be")
            }
            (None, step) => {
                let step = step.unwrap_or(if self.to < self.from { -1.0 } else { 1.0 });
                let steps = (self.to - self.from) / step;
                if !(steps.is_finite() && steps >= 0.0) {
                    return inconsistent("this `step` never leads from `from` to `to`");
                }
                // A step that ends on `to` but for its rounding ends on it.
                let last = (steps + 1e-9).floor();
                if last >= MOST as f64 {
                    let (what, limit) = ("values of a range", MOST);
                    return Err(ProblemKind::TooMuch { what, limit });
                }
                let point = |place: usize| self.from + place as f64 * step;
                let places = 0..=last as usize;
                Ok(places
                    .map(|place| self.value(rounded(point(place), COMPUTED)))
                    .collect())
            }
        }
    }

    /// What lies at a share of the way.
    fn between(&self, share: f64, digits: i32) -> f64 {
        let value = match self.is_log {
            true => (self.from.ln() + share * (self.to.ln() - self.from.ln())).exp(),
            false => self.from + share * (self.to - self.from),
        };
        // Rounding leads out of no range.
        let (low, high) = (self.from.min(self.to), self.from.max(self.to));
        rounded(value, digits).clamp(low, high)
    }

    fn value(&self, number: f64) -> Value {
        // Points of a range of integers that is divided evenly need not be whole.
        let is_whole = self.is_whole && (self.is_log || number.fract() == 0.0);
        match is_whole {
            true => Value::Int(number.round() as i64, None),
            false => Value::Float(number, None),
        }
    }
}

/// To so many significant digits.
fn rounded(value: f64, digits: i32) -> f64 {
    let digits = usize::try_from(digits - 1).unwrap_or(0);
    format!("{value:.digits$e}").parse().unwrap_or(value)
}

/// What a field of a `sample` is drawn from.
pub(super) enum Draw {
    /// One of these, each as likely.
    Of(Vec<Node>),
    /// Anything within a range.
    Within(Range),
}

impl Draw {
    pub(super) fn of(node: &Node, problems: &mut Vec<Problem>) -> Self {
        if let Some((name, body)) = body(node)
            && body.get("n").is_none()
            && body.get("step").is_none()
        {
            return match Range::read(name, body, problems) {
                Some(range) => Self::Within(range),
                // Reported, and nothing is drawn.
                None => Self::Of(Vec::new()),
            };
        }
        let values = values(node, problems);
        if values.as_ref().is_some_and(Vec::is_empty) {
            let kind = ProblemKind::OutOfRange {
                value: "an empty list".into(),
                limit: "at least one value".into(),
            };
            problems.push(Problem::at(node.spot, kind));
        }
        Self::Of(values.unwrap_or_default())
    }

    /// The value at a place in [0, 1).
    pub(super) fn value(&self, spot: Spot, uniform: f64) -> Node {
        match self {
            Self::Of(values) => {
                let place = (uniform * values.len() as f64) as usize;
                values.get(place).cloned().unwrap_or(Node {
                    value: Value::Unknown,
                    spot,
                })
            }
            Self::Within(range) => Node {
                value: range.drawn(uniform),
                spot,
            },
        }
    }
}

impl Range {
    /// The value at a place in [0, 1): of integers each as likely, on a `log_range` by its logarithm.
    fn drawn(&self, uniform: f64) -> Value {
        match self.is_whole && !self.is_log {
            true => {
                let (low, high) = (self.from.min(self.to), self.from.max(self.to));
                Value::Int((low + (uniform * (high - low + 1.0)).floor()) as i64, None)
            }
            false => self.value(self.between(uniform, READABLE)),
        }
    }
}

/// A number in [0, 1) that depends on these three alone.
pub(super) fn uniform(seed: i64, draw: u64, field: &str) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"dynvis sample");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&draw.to_le_bytes());
    hasher.update(field.as_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    // The 53 bits that a float holds.
    (u64::from_le_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64
}
