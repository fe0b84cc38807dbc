//! Amounts, canaries, orders and budgets, as people type them.

use std::str::FromStr;

use rfs_model::HostId;
use rfs_proto::v1::{self, amount};

/// `3` or `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Amount(pub(super) amount::Amount);

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error =
            || format!("{text:?} is not a number of hosts: write one such as 3, or a percentage such as 25%");
        let amount = match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().map_err(|_| error())?;
                if !(1..=100).contains(&percent) {
                    return Err(format!("{text} is not a percentage of the hosts: 1% to 100% can be meant"));
                }
                amount::Amount::Percent(percent)
            }
            None => match text.parse().map_err(|_| error())? {
                0 => return Err("0 hosts make no sense here: write 1 or more".to_owned()),
                count => amount::Amount::Count(count),
            },
        };
        Ok(Self(amount))
    }
}

impl From<Amount> for v1::Amount {
    fn from(amount: Amount) -> Self {
        Self { amount: Some(amount.0) }
    }
}

/// A number of hosts, or one by name. A host that is called like a number is meant by `--host` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Canary {
    Amount(Amount),
    Host(HostId),
}

impl FromStr for Canary {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'%') {
            return text.parse().map(Self::Amount);
        }
        text.parse().map(Self::Host).map_err(|error: rfs_model::NameError| error.to_string())
    }
}

/// Labels whose hosts change in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct OrderList(pub(super) Vec<v1::Order>);

pub(super) fn parse_order(text: &str) -> Result<OrderList, String> {
    let labels: Vec<_> = text.split(',').collect();
    for label in &labels {
        rfs_model::label::parse_label(label).map_err(|error| error.to_string())?;
    }
    if labels.len() < 2 {
        return Err(format!("{text:?} orders nothing: write two labels or more, such as role=db,role=web"));
    }
    let pairs = labels.windows(2).map(|pair| v1::Order { before: pair[0].into(), after: pair[1].into() });
    Ok(OrderList(pairs.collect()))
}

/// `zone=1`, `zone=25%`, or `1` for the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Budget {
    pub(super) group_by: String,
    pub(super) amount: Amount,
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (group_by, amount) = text.rsplit_once('=').unwrap_or(("", text));
        if group_by.is_empty() && text.contains('=') {
            return Err(format!(
                "{text:?} names no label: write one such as zone=1, or only the number for all hosts"
            ));
        }
        Ok(Self { group_by: group_by.to_owned(), amount: amount.parse()? })
    }
}
