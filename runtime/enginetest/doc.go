// Package enginetest is what every runtime.Engine must do, as tests against a real engine.
//
// # Nouns
//
//   - A Rig is the engine under test: how to open it, how to reach its host, how to start and end its service.
//   - A behaviour is one row of the table that Run goes through.
//   - A bench is what a behaviour works with: the Rig, an opened Engine, and helpers that fail the test.
//
// The containers are made with the engine's own command line on its host, as a user makes them: what the Engine tells is
// compared with what the command and the kernel say.
//
// # Who may call what
//
// Run is called from a test with a Rig of its own; the behaviours run one after the other.
//
// # What does not belong here
//
// How hosts and engines are made (netns-tests/lab), and wrong or slow answers that no real engine gives: those are the
// unit tests beside each edge.
package enginetest
