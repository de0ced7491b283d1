//! The child's side of `create` and `exec`, from clone to `execve`.
