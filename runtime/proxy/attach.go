package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// killTimeout is for ending a container that could not be attached.
const killTimeout = 20 * time.Second

// attached waits until the container that was started is on the network. If it cannot be, it is killed, unless it ran
// before, and the client gets the reply. A client that does not wait any more changes nothing.
func (p *Proxy) attached(ctx context.Context, c call, status int) *reply {
	limited, cancel := context.WithTimeoutCause(ctx, p.cfg.AttachLimit, errAttachLimit)
	defer cancel()
	err := p.cfg.Network.Attach(limited, c.id)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	if errors.Is(context.Cause(limited), errAttachLimit) {
		err = fmt.Errorf("it took longer than %v: %w", p.cfg.AttachLimit, err)
	}
	text := fmt.Sprintf("weave cannot attach container %s: %v", c.id, err)
	p.cfg.Log.Warn("a container that was started is not attached", "container", c.id, "err", err)
	if status != http.StatusNotModified {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
		defer cancel()
		if err := p.engine.kill(limited, c); err != nil {
			p.cfg.Log.Warn("cannot kill a container that is not attached", "container", c.id, "err", err)
		}
	}
	return failure(c, http.StatusInternalServerError, text)
}

var errAttachLimit = errors.New("time limit")
