// Command report runs the simulation at several sizes and prints what it costs,
// as the Markdown table of docs/simulation.md.
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	sizes := flag.String("peers", "10,100,1000", "numbers of peers, separated by commas")
	seed := flag.Uint64("seed", 1, "of the randomness")
	write := flag.String("write", "", "put the table into this file, between its marks")
	flag.Parse()
	if err := run(*sizes, *seed, *write); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(sizes string, seed uint64, write string) error {
	var columns []column
	for _, text := range strings.Split(sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 2 {
			return fmt.Errorf("%q is no number of peers", text)
		}
		begun := time.Now()
		c, err := measure(n, seed)
		if err != nil {
			return fmt.Errorf("%d peers: %w", n, err)
		}
		fmt.Fprintf(os.Stderr, "%d peers: %s\n", n, time.Since(begun).Round(time.Second))
		columns = append(columns, c)
	}
	text := heading(sizes, seed) + table(columns)
	fmt.Print(text)
	if write == "" {
		return nil
	}
	return replaceBetweenMarks(write, text)
}
