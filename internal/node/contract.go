package node

import (
	"context"
	"log/slog"
	"net/netip"
)

type Config struct {
	Name, Nickname, Password string
	Port                     int
	Host                     netip.Addr
	Peers                    []string
	Resume, NoDiscovery      bool
	ConnLimit, MTU           int
	StateDir, RunDir         string
	HTTPAddr, StatusAddr     string
	Log                      *slog.Logger
	Instance                 string
}

func Run(ctx context.Context, cfg Config) error { <-ctx.Done(); return nil }

func Reset(ctx context.Context, stateDir, runDir string) error { return nil }
