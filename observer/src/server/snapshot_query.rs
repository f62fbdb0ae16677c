//! Of whom a snapshot is asked for, and in which order.

use super::parameter;

/// What entities are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Bytes a second, both ways, and then the bytes that were carried.
    #[default]
    Bytes,
    /// The share of the node's load over one minute, and then what is active now.
    Load,
    /// Time waited for a CPU a second, and then altogether.
    Wait,
    /// Memory.
    Memory,
}

impl Order {
    /// Every one, with its name.
    pub const ALL: [(&str, Self); 4] =
        [("bytes", Self::Bytes), ("load", Self::Load), ("wait", Self::Wait), ("memory", Self::Memory)];
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotQuery {
    /// Which entities; all if nothing is said.
    pub entity: Option<String>,
    /// What they are sorted by.
    pub sort: Order,
    /// How many of them.
    pub top: usize,
}

impl Default for SnapshotQuery {
    fn default() -> Self {
        Self { entity: None, sort: Order::Bytes, top: parameter::USUAL }
    }
}

impl SnapshotQuery {
    /// Reads the parameters; the error says what would be right.
    pub(super) fn of_parameters(parameters: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in parameters {
            match name.as_str() {
                "entity" => query.entity = Some(parameter::entity(value)?),
                "sort" => {
                    let known = Order::ALL.iter().find(|(name, _)| *name == value);
                    query.sort = known.map(|(_, order)| *order).ok_or_else(|| {
                        let all = Order::ALL.map(|(name, _)| name);
                        format!("sort={value} is not right; wanted: {}", all.join(", "))
                    })?;
                }
                "top" => query.top = parameter::top(&value)?,
                _ => return Err(format!("{name:?} is no parameter here; there are entity, sort and top")),
            }
        }
        Ok(query)
    }
}
