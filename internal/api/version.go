package api

// Version is the version of this binary, shown by client and daemon. The linker sets it
// (-ldflags "-X weave/internal/api.Version=1.2.3"), which is why it is a variable; nothing else may write it.
var Version = "0.1.0-dev"
