package main

import (
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// cmdDNS stands in for CoreDNS with its plugin whoami: a query is answered with the address that it came from. The
// suite's tests of UDPRoutes only want an answer.
func cmdDNS() error {
	pc, err := net.ListenPacket("udp", ":53")
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", ":53")
	if err != nil {
		return err
	}
	log.Printf("answering on port 53")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for {
					var n uint16
					if binary.Read(c, binary.BigEndian, &n) != nil {
						return
					}
					b := make([]byte, n)
					if _, err := io.ReadFull(c, b); err != nil {
						return
					}
					out := dnsAnswer(b, c.RemoteAddr().String())
					if out == nil {
						return
					}
					_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
				}
			}()
		}
	}()
	b := make([]byte, 65536)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			return err
		}
		log.Printf("query from %s", from)
		if out := dnsAnswer(b[:n], from.String()); out != nil {
			_, _ = pc.WriteTo(out, from)
		}
	}
}

func dnsAnswer(b []byte, from string) []byte {
	var m dnsmessage.Message
	if m.Unpack(b) != nil || m.Response {
		return nil
	}
	r := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired,
		},
		Questions: m.Questions,
	}
	ap, _ := netip.ParseAddrPort(from)
	a := ap.Addr().Unmap().WithZone("")
	for _, q := range m.Questions {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type}
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			r.Answers = append(r.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			r.Answers = append(r.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	out, err := r.Pack()
	if err != nil {
		return nil
	}
	return out
}
