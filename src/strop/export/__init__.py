"""What turns a portable graph into one that another format can hold: layouts, and ops that the format lacks taken apart."""
