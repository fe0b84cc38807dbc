//! Who acts, beside the hosts: people and tools, and the coordinators themselves.

crate::name::name! {
    /// The name of an operator, a person or a tool, as its certificate says it, such as `alice` or `deploy-bot`.
    OperatorName, "operator name"
}

crate::name::name! {
    /// The name of a coordinator, as its certificate says it, such as `main`.
    CoordinatorName, "coordinator name"
}
