# Five machines, as in the paper's mirror of a backbone
require 'vini'
$v = Slice.new(7, 21, 'iias', true, 'XORP')
$pr  = Node.new('node1.princeton.example', $v, 'pr')
$ny1 = Node.new('node1.ny.example', $v, 'NY 1')
$ny2 = Node.new("node2.ny.example", $v, 'ny2')
$l1 = Link.new($pr, $ny1, 50)
$l2 = Link.new($pr, $ny2, 50); $l3 = Link.new($ny1, $ny2, 1)
$l4 = Link.new($ny1,   # over two lines
               $ny2, 2)
$pr.add_nat_dests(['192.0.2.0/24', '198.51.100.0/24'])
$ny1.openvpn(true)
$ny2.openvpn(false)
$ny2.reserve_cpu(25)
