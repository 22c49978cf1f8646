// Package session speaks WireGuard.
package session
