//! Requests and limits.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::names;
use super::super::problem::Problems;
use super::super::quantity::Amount;
use super::{containers, form};

type Quantities = BTreeMap<String, Quantity>;

/// Requests or limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Which {
    /// `requests`.
    Requests,
    /// `limits`.
    Limits,
}

impl Which {
    fn of(self, resources: Option<&ResourceRequirements>) -> Option<&Quantities> {
        match self {
            Self::Requests => resources?.requests.as_ref(),
            Self::Limits => resources?.limits.as_ref(),
        }
    }
}

/// What the containers of a pod need at the time when they need most: either all that run
/// together, or an init container with the sidecars before it.
///
/// Source: `component-helpers/resource/helpers.go`.
pub(in super::super) fn effective(spec: &PodSpec, which: Which) -> BTreeMap<String, Amount> {
    let amounts = |container: &Container| {
        let quantities = which.of(container.resources.as_ref()).into_iter().flatten();
        quantities.map(|(name, quantity)| (name.clone(), Amount::of(quantity))).collect::<Vec<_>>()
    };
    let mut together: BTreeMap<String, Amount> = BTreeMap::new();
    let mut most: BTreeMap<String, Amount> = BTreeMap::new();
    for container in spec.init_containers.iter().flatten() {
        for (name, amount) in amounts(container) {
            let sidecars = together.entry(name.clone()).or_default();
            let now = *sidecars + amount;
            if container.restart_policy.as_deref() == Some("Always") {
                *sidecars = now;
            }
            let most = most.entry(name).or_default();
            *most = (*most).max(now);
        }
    }
    for (name, amount) in spec.containers.iter().flat_map(amounts) {
        let sum = together.entry(name).or_default();
        *sum = *sum + amount;
    }
    for (name, amount) in together {
        let most = most.entry(name).or_default();
        *most = (*most).max(amount);
    }
    most
}

/// Checks what a container asks for.
pub(super) fn container(path: &str, resources: &ResourceRequirements, problems: &mut Problems) {
    let limits = resources.limits.clone().unwrap_or_default();
    let requests = resources.requests.clone().unwrap_or_default();
    for (part, quantities) in [("limits", &limits), ("requests", &requests)] {
        for (name, quantity) in quantities {
            let path = format!("{path}.{part}[{name}]");
            resource_name(&path, name, problems);
            amount(&path, name, quantity, problems);
        }
    }
    for (name, request) in &requests {
        let limit = limits.get(name);
        against_limit(&format!("{path}.requests"), name, request, limit, problems);
    }
    let asks = |name: &str| requests.contains_key(name) || limits.contains_key(name);
    let huge = requests.keys().chain(limits.keys()).any(|name| is_huge(name));
    if huge && !asks("cpu") && !asks("memory") {
        problems.forbidden(path, "HugePages require cpu or memory");
    }
}

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn resource_name(path: &str, name: &str, problems: &mut Problems) {
    if matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge(name) {
        return;
    }
    form(problems, path, name, names::qualified(name));
    if name.contains('/') {
        problems.forbidden(path, "there are no extended resources on this machine");
    } else {
        problems.invalid(path, name, "must be a standard resource for containers");
    }
}

fn amount(path: &str, name: &str, quantity: &Quantity, problems: &mut Problems) {
    let amount = Amount::of(quantity);
    if amount < Amount::default() {
        problems.invalid(path, &quantity.0, "must be greater than or equal to 0");
    }
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    match Amount::parse(size).map(Amount::milli) {
        Some(page) if page > 0 => {
            if amount.milli() % page != 0 {
                let detail = format!("must be a multiple of the page size {size}");
                problems.invalid(path, &quantity.0, detail);
            }
        }
        _ => problems.invalid(path, name, "must have the size of a page in its name"),
    }
}

fn against_limit(
    path: &str,
    name: &str,
    request: &Quantity,
    limit: Option<&Quantity>,
    problems: &mut Problems,
) {
    let Some(limit) = limit else {
        if is_huge(name) {
            problems.required(path, "Limit must be set for non overcommitable resources");
        }
        return;
    };
    if is_huge(name) {
        if Amount::of(request) != Amount::of(limit) {
            let detail = format!("must be equal to {name} limit of {}", limit.0);
            problems.invalid(path, &request.0, detail);
        }
    } else if Amount::of(request) > Amount::of(limit) {
        let detail = format!("must be less than or equal to {name} limit of {}", limit.0);
        problems.invalid(path, &request.0, detail);
    }
}

/// Checks what a pod asks for as a whole.
pub(super) fn pod(spec: &PodSpec, problems: &mut Problems) {
    let Some(resources) = &spec.resources else { return };
    container("spec.resources", resources, problems);
    for (part, which) in [("limits", Which::Limits), ("requests", Which::Requests)] {
        for name in which.of(Some(resources)).into_iter().flatten().map(|(name, _)| name) {
            if !matches!(name.as_str(), "cpu" | "memory") && !is_huge(name) {
                let path = format!("spec.resources.{part}[{name}]");
                problems.unsupported(&path, name, &["cpu", "hugepages-", "memory"]);
            }
        }
    }
    for (name, sum) in effective(spec, Which::Requests) {
        let Some(request) = resources.requests.as_ref().and_then(|all| all.get(&name)) else {
            continue;
        };
        if Amount::of(request) < sum {
            let detail =
                format!("must be greater than or equal to aggregate container requests of {sum}");
            problems.invalid(&format!("spec.resources.requests[{name}]"), &request.0, detail);
        }
    }
    for (path, item) in containers(spec) {
        for (name, limit) in Which::Limits.of(item.resources.as_ref()).into_iter().flatten() {
            let whole = resources.limits.as_ref().and_then(|all| all.get(name));
            if let Some(whole) = whole.filter(|whole| Amount::of(limit) > Amount::of(whole)) {
                let detail = format!("must be less than or equal to pod limits of {}", whole.0);
                problems.invalid(&format!("{path}.resources.limits[{name}]"), &limit.0, detail);
            }
        }
    }
}
