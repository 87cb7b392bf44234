//! The Hilbert curve: a line that fills a square so that each aligned block of addresses is one
//! square or two, and neighbours stay close (as in "Map of the Internet", xkcd 195).

/// Where the cell with this number lies, as column and row, in a square of `1 << order` cells a side.
/// The curve begins at the top left and ends at the top right.
pub(super) fn place(order: u32, number: u32) -> (u32, u32) {
    let (mut x, mut y) = (0, 0);
    let mut rest = number;
    for level in 0..order {
        let side = 1 << level;
        let right = 1 & (rest / 2);
        let down = 1 & (rest ^ right);
        if down == 0 {
            if right == 1 {
                (x, y) = (side - 1 - x, side - 1 - y);
            }
            (x, y) = (y, x);
        }
        x += side * right;
        y += side * down;
        rest /= 4;
    }
    (x, y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_visits_every_cell_once_in_steps_of_one() {
        for order in 1..7 {
            let cells = 1_u32 << (2 * order);
            let mut seen = std::collections::HashSet::new();
            let mut last = None;
            for number in 0..cells {
                let (x, y) = place(order, number);
                assert!(seen.insert((x, y)));
                if let Some((before_x, before_y)) = last {
                    assert_eq!(x.abs_diff(before_x) + y.abs_diff(before_y), 1);
                }
                last = Some((x, y));
            }
            assert_eq!(place(order, 0), (0, 0));
            assert_eq!(last, Some(((1 << order) - 1, 0)));
        }
    }
}
