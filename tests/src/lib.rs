//! What the black-box tests share: real server processes, a small client, and waiting for events with a deadline.
