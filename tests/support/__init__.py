"""What tests share: the project as a user runs it, servers, a proxy that misbehaves."""
