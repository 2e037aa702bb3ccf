"""Reads a card as any program with pyscard does, and prints what it found as JSON."""

import json
import sys

from smartcard.System import readers

# What this terminal tells a card that asks; zeros where it knows nothing.
KNOWN = {
    "9F66": "21800080",
    "5F2A": "0156",
    "9F1A": "0156",
    "9A": sys.argv[2],
    "9F37": "01020304",
}


def tlvs(data):
    i = 0
    while i < len(data):
        start = i
        i += 1
        if data[start] & 0x1F == 0x1F:
            while data[i] & 0x80:
                i += 1
            i += 1
        tag = bytes(data[start:i]).hex().upper()
        length = data[i]
        i += 1
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(bytes(data[i:i + count]), "big")
            i += count
        yield tag, data[i:i + length]
        i += length


def find(data, wanted):
    for tag, value in tlvs(data):
        if tag == wanted:
            return value
        if int(tag[:2], 16) & 0x20:
            found = find(value, wanted)
            if found is not None:
                return found
    return None


def transmit(connection, command):
    data, sw1, sw2 = connection.transmit(command)
    while sw1 == 0x61:
        more, sw1, sw2 = connection.transmit([0x00, 0xC0, 0x00, 0x00, sw2])
        data = data + more
    if (sw1, sw2) != (0x90, 0x00):
        sys.exit("status %02X%02X to %s" % (sw1, sw2, bytes(command).hex()))
    return data


def select(connection, name):
    return transmit(connection, [0x00, 0xA4, 0x04, 0x00, len(name)] + list(name) + [0x00])


def main():
    reader = next(r for r in readers() if sys.argv[1] in str(r))
    connection = reader.createConnection()
    connection.connect()
    atr = connection.getATR()
    uid = transmit(connection, [0xFF, 0xCA, 0x00, 0x00, 0x00])
    directory = select(connection, b"2PAY.SYS.DDF01")
    aid = find(directory, "4F")
    fci = select(connection, aid)
    values = []
    pdol = find(fci, "9F38")
    i = 0
    while i < len(pdol):
        start = i
        i += 1
        if pdol[start] & 0x1F == 0x1F:
            i += 1
        tag = bytes(pdol[start:i]).hex().upper()
        length = pdol[i]
        i += 1
        value = list(bytes.fromhex(KNOWN.get(tag, "")))
        values += value if len(value) == length else [0] * length
    options = [0x83, len(values)] + values
    answer = transmit(connection, [0x80, 0xA8, 0x00, 0x00, len(options)] + options + [0x00])
    tags = [tag for tag, _ in tlvs(find(answer, "77") or answer)]
    afl = find(answer, "94")
    for entry in range(0, len(afl), 4):
        sfi, first, last, _ = afl[entry:entry + 4]
        for record in range(first, last + 1):
            content = transmit(connection, [0x00, 0xB2, record, (sfi & 0xF8) | 0x04, 0x00])
            tags += [tag for tag, _ in tlvs(find(content, "70"))]
    print(json.dumps({
        "atr": bytes(atr).hex().upper(),
        "uid": bytes(uid).hex().upper(),
        "aid": bytes(aid).hex().upper(),
        "tags": tags,
    }))


main()
