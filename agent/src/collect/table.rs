//! Things by number, each number given once: who still holds that of a thing that is gone finds nothing.

/// Places: more than there are series or entities.
const PLACE_BITS: u32 = 18;

/// Things that come and go. A place is given again, with another number each time; a number comes back after a place was
/// given sixteen thousand times.
#[derive(Debug)]
pub(super) struct Table<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    /// The number of what is there, or will be there next.
    number: u32,
    item: Option<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Takes a thing in. Returns its number; where there is no place left, one that nothing has.
    pub(super) fn insert(&mut self, item: T) -> u32 {
        if let Some(place) = self.free.pop().and_then(|number| self.places.get_mut(at(number))) {
            place.item = Some(item);
            return place.number;
        }
        let Some(number) = u32::try_from(self.places.len()).ok().filter(|place| place >> PLACE_BITS == 0) else {
            return u32::MAX;
        };
        self.places.push(Place { number, item: Some(item) });
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.places.get(at(number)).filter(|place| place.number == number)?.item.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(at(number)).filter(|place| place.number == number)?.item.as_mut()
    }

    /// Lets go of what is not to be kept.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(u32, &mut T) -> bool) {
        for place in &mut self.places {
            let number = place.number;
            if place.item.take_if(|item| !keep(number, item)).is_some() {
                place.number = number.wrapping_add(1 << PLACE_BITS);
                self.free.push(place.number);
            }
        }
    }

    /// All that is there, in the order of places.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.places.iter_mut().filter_map(|place| Some((place.number, place.item.as_mut()?)))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

fn at(number: u32) -> usize {
    (number & ((1 << PLACE_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_once_and_its_place_again() {
        let mut table = Table::default();
        let numbers = ['a', 'b', 'c'].map(|item| table.insert(item));
        assert_eq!(numbers, [0, 1, 2]);
        table.retain(|_, item| *item != 'b');
        assert_eq!((table.get(1), table.len()), (None, 2));
        let again = table.insert('d');
        assert_eq!((again & 0xffff, table.get(again), table.get(1)), (1, Some(&'d'), None));
        assert_eq!(table.get_mut(1), None);
        assert_eq!(table.iter_mut().map(|(_, item)| *item).collect::<String>(), "adc");
        for _ in 0..100_000 {
            table.retain(|_, item| *item != 'd');
            table.insert('d');
        }
        assert_eq!((table.len(), table.places.len()), (3, 3));
    }

    #[test]
    fn there_are_so_many_places() {
        let mut table = Table::default();
        (0..1 << PLACE_BITS).for_each(|item| assert_eq!(table.insert(item), item));
        let none = table.insert(0);
        assert_eq!((table.get(none), table.len()), (None, 1 << PLACE_BITS));
    }
}
