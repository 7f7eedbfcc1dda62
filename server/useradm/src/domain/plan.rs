/// Plans in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Plan {
    Os,
    Professional,
    Enterprise,
}

impl Plan {
    pub(crate) fn parse(name: &str) -> Option<Plan> {
        match name {
            "os" => Some(Plan::Os),
            "professional" => Some(Plan::Professional),
            "enterprise" => Some(Plan::Enterprise),
            _ => None,
        }
    }
}
