"""Skills: each TOML file of this folder is one."""
