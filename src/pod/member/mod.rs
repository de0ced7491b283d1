//! A container of the manifest, as an OCI configuration that joins the sandbox.
