//! Names of users.

/// The host's passwd file: a static program has no name service.
pub(super) struct Users(String);

impl Users {
    pub(super) fn read() -> Self {
        Self(std::fs::read_to_string("/etc/passwd").unwrap_or_default())
    }

    pub(super) fn name(&self, uid: u32) -> Option<String> {
        let uid = uid.to_string();
        self.0.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == uid).then(|| name.to_owned())
        })
    }
}

/// The name of a user, by the host's passwd file.
pub(super) fn user_name(uid: u32) -> Option<String> {
    Users::read().name(uid)
}
