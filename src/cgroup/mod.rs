//! Cgroups: v1, hybrid and v2. The only place that knows where they are mounted.
