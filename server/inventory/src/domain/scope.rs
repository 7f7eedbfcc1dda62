//! Scopes: who owns an attribute.

/// A namespace of attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// From device authentication.
    Identity,
    /// From the device.
    Inventory,
    /// From monitoring.
    Monitor,
    /// From the server.
    System,
    /// From operators.
    Tags,
}

impl Scope {
    pub const ALL: [Scope; 5] = [
        Scope::Identity,
        Scope::Inventory,
        Scope::Monitor,
        Scope::System,
        Scope::Tags,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Identity => "identity",
            Scope::Inventory => "inventory",
            Scope::Monitor => "monitor",
            Scope::System => "system",
            Scope::Tags => "tags",
        }
    }

    pub fn parse(text: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    /// Position in [`Scope::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_positions_agree() {
        for (index, scope) in Scope::ALL.into_iter().enumerate() {
            assert_eq!(scope.index(), index);
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        assert_eq!(Scope::parse("Inventory"), None);
    }
}
