//! Requests and limits.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::super::names;
use super::super::problem::Problems;
use super::{containers, form};
use crate::pod::member::quantity::Quantity;
use crate::pod::member::resources::{Side, aggregated};

/// Suffixes of powers of 1024, largest first.
const BINARY: [(u32, &str); 6] =
    [(60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];

/// What the containers of a pod request together, by resource.
pub(in super::super) fn requests(spec: &PodSpec) -> BTreeMap<String, Quantity> {
    let own = containers(spec).filter_map(|(_, container)| container.resources.as_ref());
    let names: BTreeSet<&String> =
        own.filter_map(|own| own.requests.as_ref()).flat_map(BTreeMap::keys).collect();
    let sum = |name: &String| (name.clone(), aggregated(spec, Side::Requests, name));
    names.into_iter().map(sum).collect()
}

/// A quantity with the largest suffix that loses nothing.
pub(in super::super) fn written(quantity: Quantity) -> String {
    if quantity.milli() % 1000 != 0 {
        return format!("{}m", quantity.milli());
    }
    let ones = quantity.value();
    let suffix = BINARY.iter().find(|(power, _)| ones != 0 && ones % (1 << power) == 0);
    suffix.map_or(ones.to_string(), |(power, suffix)| format!("{}{suffix}", ones >> power))
}

fn parsed(text: &Text) -> Quantity {
    // Decoding has refused what is none.
    Quantity::parse(&text.0).unwrap_or_default()
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

fn amount(path: &str, name: &str, quantity: &Text, problems: &mut Problems) {
    let amount = parsed(quantity);
    if amount.is_negative() {
        problems.invalid(path, &quantity.0, "must be greater than or equal to 0");
    }
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    match Quantity::parse(size).map(Quantity::value) {
        Some(page) if page > 0 => {
            if amount.value() % page != 0 {
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
    request: &Text,
    limit: Option<&Text>,
    problems: &mut Problems,
) {
    let Some(limit) = limit else {
        if is_huge(name) {
            problems.required(path, "Limit must be set for non overcommitable resources");
        }
        return;
    };
    if is_huge(name) {
        if parsed(request) != parsed(limit) {
            let detail = format!("must be equal to {name} limit of {}", limit.0);
            problems.invalid(path, &request.0, detail);
        }
    } else if parsed(request) > parsed(limit) {
        let detail = format!("must be less than or equal to {name} limit of {}", limit.0);
        problems.invalid(path, &request.0, detail);
    }
}

/// Checks what a pod asks for as a whole.
pub(super) fn pod(spec: &PodSpec, problems: &mut Problems) {
    let Some(resources) = &spec.resources else { return };
    container("spec.resources", resources, problems);
    for (part, given) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        for name in given.iter().flatten().map(|(name, _)| name) {
            if !matches!(name.as_str(), "cpu" | "memory") && !is_huge(name) {
                let path = format!("spec.resources.{part}[{name}]");
                problems.unsupported(&path, name, &["cpu", "hugepages-", "memory"]);
            }
        }
    }
    for (name, sum) in requests(spec) {
        let Some(request) = resources.requests.as_ref().and_then(|all| all.get(&name)) else {
            continue;
        };
        if parsed(request) < sum {
            let detail = format!(
                "must be greater than or equal to aggregate container requests of {}",
                written(sum)
            );
            problems.invalid(&format!("spec.resources.requests[{name}]"), &request.0, detail);
        }
    }
    for (path, item) in containers(spec) {
        let limits = item.resources.as_ref().and_then(|own| own.limits.as_ref());
        for (name, limit) in limits.into_iter().flatten() {
            let whole = resources.limits.as_ref().and_then(|all| all.get(name));
            if let Some(whole) = whole.filter(|whole| parsed(limit) > parsed(whole)) {
                let detail = format!("must be less than or equal to pod limits of {}", whole.0);
                problems.invalid(&format!("{path}.resources.limits[{name}]"), &limit.0, detail);
            }
        }
    }
}
