// Reads a stream as most Go programs do: line by line, with bufio.Scanner.
//
// The first argument is the URL. A second one is the number of bytes a line may have.
package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
)

func main() {
	response, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	lines := bufio.NewScanner(response.Body)
	if len(os.Args) > 2 {
		most, _ := strconv.Atoi(os.Args[2])
		lines.Buffer(nil, most)
	}
	for lines.Scan() {
		if len(lines.Text()) > 100 {
			fmt.Printf("a line of %d bytes\n", len(lines.Text()))
		} else {
			fmt.Println(lines.Text())
		}
	}
	fmt.Println(lines.Err())
}
