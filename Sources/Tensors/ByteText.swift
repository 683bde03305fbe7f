/// A number of bytes in binary units with three significant digits, such as "4.31 GiB" or "512 B".
package func byteText(_ count: Double) -> String {
  let units = ["B", "KiB", "MiB", "GiB", "TiB"]
  // Beyond, and where there is no number, the digits of a double say more.
  guard count.magnitude < 1e27 else { return "\(count) B" }
  var (value, unit) = (count, 0)
  while value >= 1024, unit + 1 < units.count { (value, unit) = (value / 1024, unit + 1) }
  let scale = unit == 0 || value >= 100 ? 1 : value >= 10 ? 10 : 100
  // Ties go to the even digit, as in C's printf.
  let scaled = Int((value * Double(scale)).rounded(.toNearestOrEven))
  // The one in front keeps the zeros: 105 for 5 of a hundred.
  let fraction = scale == 1 ? "" : "." + "\(scale + scaled % scale)".dropFirst()
  return "\(scaled / scale)\(fraction) \(units[unit])"
}

/// The same for a whole number.
package func byteText(_ count: Int) -> String { byteText(Double(count)) }
