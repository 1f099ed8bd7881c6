// The request of request.textproto, as Go's library writes it: whole, or in parts that are appended one to the other, the account
// first, as a program does that has the account before it knows the rest.
package main

import (
	"io"
	"os"

	calllog "golden/gen/ministries/calllog/v1"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	request := &calllog.LogCallRequest{}
	if err := prototext.Unmarshal(text, request); err != nil {
		panic(err)
	}
	parts := []proto.Message{request}
	if os.Args[1] == "parts" {
		account := &calllog.LogCallRequest{Account: request.Account}
		request.Account = nil
		parts = []proto.Message{account, request}
	}
	var bytes []byte
	for _, part := range parts {
		if bytes, err = (proto.MarshalOptions{}).MarshalAppend(bytes, part); err != nil {
			panic(err)
		}
	}
	if _, err := os.Stdout.Write(bytes); err != nil {
		panic(err)
	}
}
