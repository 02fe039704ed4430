"""multitask: how the losses of tags and captions become one."""
