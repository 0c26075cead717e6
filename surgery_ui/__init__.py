"""What the pages of the app share: state, jobs, caches, controls, components and wording."""
