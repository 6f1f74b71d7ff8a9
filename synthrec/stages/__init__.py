"""The seven verbs, in the order in which data flows. Each file glues rooms together; the logic is in the rooms."""
