//! Every door from the agent to the operating system
