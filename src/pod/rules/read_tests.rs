use super::*;
use crate::pod::decide::world::pod as parsed;

fn rules(json: &str) -> PodRules {
    super::pod(&parsed(json)).unwrap()
}

fn error(json: &str) -> String {
    super::pod(&parsed(json)).unwrap_err().to_string()
}

fn annotated(key: &str, value: &str) -> String {
    format!(
        r#"{{"metadata": {{"annotations": {{"carob/{key}": "{value}"}}}}, "spec": {{"containers":
            [{{"name": "web", "livenessProbe": {{"exec": {{}}}}, "readinessProbe": {{"exec": {{}}}}}}]}}}}"#
    )
}

#[test]
fn defaults_are_the_kubelets() {
    let rules =
        rules(r#"{"spec": {"containers": [{"name": "a", "livenessProbe": {"exec": {}}}]}}"#);
    assert_eq!((rules.name.as_str(), rules.uid.as_str()), ("p", "u1"));
    assert_eq!((rules.restart, rules.grace), (RestartPolicy::Always, Duration::from_secs(30)));
    assert_eq!((rules.active_deadline, rules.backoff), (None, BackoffRules::default()));
    let app = rules.container("a").unwrap();
    assert_eq!(
        (app.kind, app.restart, app.post_start, app.pre_stop),
        (Kind::App, RestartPolicy::Always, false, false)
    );
    let expected = ProbeRules {
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
        grace: None,
    };
    assert_eq!(app.liveness, Some(expected));
}

#[test]
fn every_field_is_read() {
    let rules = rules(
        r#"{"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "activeDeadlineSeconds": 7,
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "o", "restartPolicy": "OnFailure"}],
            "containers": [{"name": "a", "restartPolicy": "OnFailure",
                "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [1, 2]}}],
                "lifecycle": {"postStart": {"exec": {}}, "preStop": {"exec": {}}},
                "startupProbe": {"exec": {}, "initialDelaySeconds": 1, "periodSeconds": 2, "timeoutSeconds": 3,
                    "successThreshold": 1, "failureThreshold": 4, "terminationGracePeriodSeconds": 6}}]}}"#,
    );
    assert_eq!(rules.restart, RestartPolicy::Never);
    assert_eq!((rules.grace, rules.active_deadline), (seconds(5), Some(seconds(7))));
    let of = |name: &str| {
        let own = rules.container(name).unwrap();
        (own.kind, own.restart)
    };
    assert_eq!(of("i"), (Kind::Init, RestartPolicy::Never));
    assert_eq!(of("s"), (Kind::Sidecar, RestartPolicy::Always));
    assert_eq!(of("o"), (Kind::Init, RestartPolicy::OnFailure));
    assert_eq!(of("a"), (Kind::App, RestartPolicy::OnFailure));
    let app = rules.container("a").unwrap();
    assert!(app.post_start && app.pre_stop);
    let rule =
        ExitRule { matches: CodeMatch::NotIn, codes: vec![1, 2], action: ExitAction::RestartAll };
    assert_eq!(app.exit_rules, [rule]);
    let startup = app.startup.unwrap();
    assert_eq!(
        (startup.initial_delay, startup.period, startup.timeout),
        (seconds(1), seconds(2), seconds(3))
    );
    assert_eq!((startup.failure_threshold, startup.grace), (4, Some(seconds(6))));
}

#[test]
fn annotations_change_back_off_and_periods() {
    assert_eq!(
        rules(&annotated("backoff-initial", "500ms")).backoff.initial,
        Duration::from_millis(500)
    );
    assert_eq!(rules(&annotated("backoff-reset", "5m")).backoff.reset, seconds(300));
    let short = rules(&annotated("backoff-max", "1s")).backoff;
    assert_eq!(
        (short.initial, short.max),
        (seconds(1), seconds(1)),
        "the first is not above the last"
    );
    let text = "web/liveness=200ms web/readiness=100ms";
    let rules = rules(&annotated("probe-periods", text));
    assert_eq!(rules.apps[0].liveness.unwrap().period, Duration::from_millis(200));
    assert_eq!(rules.apps[0].readiness.unwrap().period, Duration::from_millis(100));
}

#[test]
fn wrong_annotations_are_told_with_what_is_allowed() {
    let rows = [
        (
            "backoff-initial",
            "soon",
            "\"soon\" must be a duration of at least 10ms, like 500ms, 1s or 5m",
        ),
        (
            "backoff-initial",
            "0s",
            "\"0s\" must be a duration of at least 10ms, like 500ms, 1s or 5m",
        ),
        ("probe-periods", "web", "\"web\" must be <container>/<probe>=<period>"),
        ("probe-periods", "db/liveness=1s", "\"db/liveness=1s\": no container \"db\""),
        (
            "probe-periods",
            "web/life=1s",
            "\"web/life=1s\": probe must be startup, liveness or readiness",
        ),
        ("probe-periods", "web/startup=1s", "\"web/startup=1s\": the container has no such probe"),
        (
            "probe-periods",
            "web/liveness=1ms",
            "\"1ms\" must be a duration of at least 10ms, like 500ms, 1s or 5m",
        ),
    ];
    for (key, value, expected) in rows {
        let expected = format!("metadata.annotations[carob/{key}]: {expected}");
        assert_eq!(error(&annotated(key, value)), expected);
    }
}

#[test]
fn wrong_fields_are_told_with_their_path() {
    let rule = |rule: &str| {
        format!(
            r#"{{"spec": {{"containers": [{{"name": "a", "restartPolicyRules": [{rule}]}}]}}}}"#
        )
    };
    let rows = [
        (
            r#"{"spec": {"restartPolicy": "No", "containers": []}}"#.to_owned(),
            "spec.restartPolicy: \"No\" must be Always, OnFailure or Never",
        ),
        (
            rule(r#"{"action": "Stop"}"#),
            "spec.containers[0].restartPolicyRules[0].action: \"Stop\" must be Restart or RestartAllContainers",
        ),
        (
            rule(r#"{"action": "Restart"}"#),
            "spec.containers[0].restartPolicyRules[0].exitCodes: must be there",
        ),
        (
            rule(r#"{"action": "Restart", "exitCodes": {"operator": "Is"}}"#),
            "spec.containers[0].restartPolicyRules[0].exitCodes.operator: \"Is\" must be In or NotIn",
        ),
        ("{}".to_owned(), "spec: must be there"),
    ];
    for (json, expected) in rows {
        assert_eq!(error(&json), expected);
    }
}
