// A Server-Sent Events hub as one writes it with net/http alone: a goroutine and a buffered channel for each listener, a
// send that never blocks, and a flush for whatever has gathered. A listener that falls 256 events behind loses events.
package main

import (
	"bytes"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
)

const (
	streamPath   = "/api/v1/sse/stream/"
	publishPath  = "/api/v1/sse/publish"
	listenerSize = 256
)

type room struct {
	mutex     sync.RWMutex
	listeners map[chan []byte]struct{}
}

type hub struct {
	mutex sync.RWMutex
	rooms map[string]*room
}

type event struct {
	Room string `json:"room"`
	Data string `json:"data"`
}

func (h *hub) find(name string) *room {
	h.mutex.RLock()
	defer h.mutex.RUnlock()
	return h.rooms[name]
}

func (h *hub) join(name string, listener chan []byte) *room {
	h.mutex.Lock()
	r := h.rooms[name]
	if r == nil {
		r = &room{listeners: make(map[chan []byte]struct{})}
		h.rooms[name] = r
	}
	h.mutex.Unlock()
	r.mutex.Lock()
	r.listeners[listener] = struct{}{}
	r.mutex.Unlock()
	return r
}

func (r *room) leave(listener chan []byte) {
	r.mutex.Lock()
	delete(r.listeners, listener)
	r.mutex.Unlock()
}

func (h *hub) publish(e event) {
	r := h.find(e.Room)
	if r == nil {
		return
	}
	// Built once, shared by all.
	frame := []byte("data: " + e.Data + "\n\n")
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	for listener := range r.listeners {
		select {
		case listener <- frame:
		default:
		}
	}
}

func (h *hub) stream(w http.ResponseWriter, request *http.Request) {
	flusher := w.(http.Flusher)
	name, _, _ := strings.Cut(strings.TrimPrefix(request.URL.Path, streamPath), "/")
	listener := make(chan []byte, listenerSize)
	r := h.join(name, listener)
	defer r.leave(listener)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	if _, err := w.Write([]byte("event: connected\ndata: {}\n\n")); err != nil {
		return
	}
	flusher.Flush()
	gone := request.Context().Done()
	for {
		select {
		case <-gone:
			return
		case frame := <-listener:
			if !writeAll(w, frame, listener) {
				return
			}
			flusher.Flush()
		}
	}
}

// writeAll writes frame and what else has gathered, for one flush.
func writeAll(w http.ResponseWriter, frame []byte, listener chan []byte) bool {
	for {
		if _, err := w.Write(frame); err != nil {
			return false
		}
		select {
		case frame = <-listener:
		default:
			return true
		}
	}
}

func (h *hub) receive(w http.ResponseWriter, request *http.Request) {
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(w, request.Body, 1<<20)); err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	var events []event
	if bytes.HasPrefix(body.Bytes(), []byte("[")) {
		if err := json.Unmarshal(body.Bytes(), &events); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	} else {
		events = make([]event, 1)
		if err := json.Unmarshal(body.Bytes(), &events[0]); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	for _, e := range events {
		h.publish(e)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write([]byte("{}"))
}

func main() {
	// Ten thousand goroutines are small garbage but much to scan: collecting half as often costs little memory.
	debug.SetGCPercent(200)
	h := &hub{rooms: make(map[string]*room)}
	mux := http.NewServeMux()
	mux.HandleFunc(streamPath, h.stream)
	mux.HandleFunc(publishPath, h.receive)
	log.Fatal(http.ListenAndServe(os.Args[1], mux))
}
