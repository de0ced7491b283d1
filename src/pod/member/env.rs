//! The environment of a member, and the expansion of `$(NAME)`.

use k8s_openapi::api::core::v1::Container;

use super::{Image, Place, StartFailure};

/// The variables that the manifest gives a container, each name once.
///
/// # Errors
/// `CreateContainerConfigError` naming what is missing.
pub fn environment(
    _place: &Place<'_>,
    _container: &Container,
) -> Result<Vec<(String, String)>, StartFailure> {
    Ok(vec![])
}

/// Replaces `$(NAME)` by its value; unknown names stay as they are, `$$` is one `$`.
#[must_use]
pub fn expand(_text: &str, _lookup: impl Fn(&str) -> Option<String>) -> String {
    String::new()
}

/// The command line: `command` and `args` of the manifest against those of the image.
///
/// # Errors
/// `CreateContainerError` if there is none.
pub fn command(
    _container: &Container,
    _image: &Image,
    _env: &[(String, String)],
) -> Result<Vec<String>, StartFailure> {
    Ok(vec![])
}
