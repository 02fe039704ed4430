"""Attention in linear time: the keys are summed once for all queries, or carried by a recurrence."""
