//! Labels and annotations that more than one place must know.

/// API group of all kinds.
pub const GROUP: &str = "kurier.dev";

/// UID of the relay a child belongs to. Part of the Deployment's selector, so it never changes.
pub const RELAY_UID: &str = "kurier.dev/relay-uid";

/// UID of the credential a Secret belongs to.
pub const CREDENTIAL_UID: &str = "kurier.dev/credential-uid";

/// On pods: the configuration they should have. Written through `pods/status`, only so that the
/// kubelet looks at the pod's volumes at once.
pub const CONFIG_BUMP: &str = "kurier.dev/config-bump";

/// On pod templates: changes when the queue's address does, which needs new pods.
pub const QUEUE_ADDRESS: &str = "kurier.dev/queue-address";

/// On pod templates: changes when a pod must start anew to take the configuration up.
pub const FIXED_AT_START: &str = "kurier.dev/fixed-at-start";

/// Name of the relay a child belongs to.
pub const INSTANCE: &str = "app.kubernetes.io/instance";

pub const NAME: &str = "app.kubernetes.io/name";
pub const COMPONENT: &str = "app.kubernetes.io/component";
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Value of [`COMPONENT`] on relay pods and what stands around them.
pub const RELAY_COMPONENT: &str = "relay";

/// Value of [`MANAGED_BY`] and of the server-side apply field manager.
pub const MANAGER: &str = "kurier-operator";
